"""The Python API for notebooks: import these functions from `stockpot` itself."""
