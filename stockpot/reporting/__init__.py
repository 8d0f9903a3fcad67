"""What a run found: table, verdict, plots, CSV files, HTML report and model card."""
