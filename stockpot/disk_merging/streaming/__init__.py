"""From a plan to a file: tensors are read, merged and written in runs."""
