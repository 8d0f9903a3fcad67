"""Intervals, tests and what they can detect, on per-example values; numpy and scipy alone."""
