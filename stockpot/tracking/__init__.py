"""Everything that is written to MLflow; no module imports MLflow before it is needed."""
