"""Everything that is written to MLflow; importing it does not import MLflow.

Tracker               one pipeline run in a tracking store: a parent run and a child a model
ModelRecord           what is logged of one model, as plain values
Dataset               the data that a model was judged on
check_answers         an error if a store does not answer
record_from_manifest  a ModelRecord made from an entry of results/*.json
experiment_url        the page of an experiment in MLflow's UI
compare_url           the page in MLflow's UI that compares runs
"""

from stockpot.tracking.addresses import compare_url, experiment_url
from stockpot.tracking.manifests import record_from_manifest
from stockpot.tracking.records import Dataset, ModelRecord
from stockpot.tracking.tracker import Tracker, check_answers

__all__ = [
    "Dataset",
    "ModelRecord",
    "Tracker",
    "check_answers",
    "compare_url",
    "experiment_url",
    "record_from_manifest",
]
