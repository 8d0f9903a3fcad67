"""`params.yaml` as a typed, frozen Experiment; every error names its field."""

from stockpot.config.experiment import EvaluateSection, Experiment
from stockpot.config.reading import json_schema, load_experiment
from stockpot.config.soups import SoupRecipe

__all__ = [
    "EvaluateSection",
    "Experiment",
    "SoupRecipe",
    "json_schema",
    "load_experiment",
]
