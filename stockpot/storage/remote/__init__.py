"""The store that machines share: models by content key, in a folder or at any fsspec URL."""
