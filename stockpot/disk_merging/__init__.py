"""Merging models on disk, of any size, without a project."""
