"""The results of a run: table, verdict, plots, CSV files, HTML report and model card."""
