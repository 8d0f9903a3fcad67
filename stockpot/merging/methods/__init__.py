"""Merge methods: one file per method, or per family that shares its paper."""
