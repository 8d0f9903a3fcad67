"""mergekit's format of merge files, converted to ours."""
