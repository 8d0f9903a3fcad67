"""Merge methods: one file each. `METHODS` holds all of them by name."""

from stockpot.merging.linear import linear
from stockpot.merging.registry import METHODS

__all__ = ["METHODS", "linear"]
