"""`params.yaml` as a typed, frozen Experiment; every error names its field."""

from stockpot.config.experiment import Experiment, SoupRecipe, TuneSection
from stockpot.config.reading import json_schema, load_experiment

__all__ = ["Experiment", "SoupRecipe", "TuneSection", "json_schema", "load_experiment"]
