"""Distributions of values, and the fields of params.yaml that name them."""
