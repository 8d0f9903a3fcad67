"""Weights on disk, read tensor by tensor and written in place: files, shards, folders, adapters."""
