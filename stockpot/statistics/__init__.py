"""Confidence intervals, tests and detectable differences of per-example values."""
