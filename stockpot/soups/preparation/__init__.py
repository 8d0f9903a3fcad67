"""What merge methods need of each model beside its weights, computed from train: one file each."""

from stockpot.soups.preparation.registry import PREPARATIONS, Preparation, split_options

__all__ = ["PREPARATIONS", "Preparation", "split_options"]
