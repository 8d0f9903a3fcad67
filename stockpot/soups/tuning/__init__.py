"""Search for merge coefficients."""
