"""Merges by weight signatures: added, removed, and written to patches."""
