"""Checkpoints that others have trained: found, compared with the workload's model, read."""
