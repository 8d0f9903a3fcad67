"""Merging tensors: methods, and the engine that applies them; pure torch."""
