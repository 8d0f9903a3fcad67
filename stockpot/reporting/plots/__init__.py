"""The plots of the report, one per file, each with its title and caption."""
