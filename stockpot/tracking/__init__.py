"""Everything that is written to MLflow; importing it does not import MLflow.

Tracker               one pipeline run in a tracking store: a parent run and a child a model
ModelRecord           what is logged of one model, as plain values
MAKING                the file of a run that holds what it takes to make its model again
Dataset               the data that a model was judged on
ModelRegistry         the versions of a registered model
RegisteredVersion     one of them
RecordedRun           what the store has of one model
PipelineRun           what it has of a whole pipeline run
check_answers         an error if a store does not answer
record_from_manifest  a ModelRecord made from an entry of results/*.json
log_results           puts a finished experiment on the parent run
experiment_url        the page of an experiment in MLflow's UI
compare_url           the page in MLflow's UI that compares runs
run_url               the page in MLflow's UI of a run
registered_model_url  the page in MLflow's UI of a registered model
"""

from stockpot.tracking.addresses import (
    compare_url,
    experiment_url,
    registered_model_url,
    run_url,
)
from stockpot.tracking.manifests import record_from_manifest
from stockpot.tracking.pipeline_runs import PipelineRun
from stockpot.tracking.recorded_runs import MAKING, RecordedRun
from stockpot.tracking.records import Dataset, ModelRecord
from stockpot.tracking.registry import ModelRegistry, RegisteredVersion
from stockpot.tracking.tracker import Tracker, check_answers
from stockpot.tracking.whole_run import log_results

__all__ = [
    "MAKING",
    "Dataset",
    "ModelRecord",
    "ModelRegistry",
    "PipelineRun",
    "RecordedRun",
    "RegisteredVersion",
    "Tracker",
    "check_answers",
    "compare_url",
    "experiment_url",
    "log_results",
    "record_from_manifest",
    "registered_model_url",
    "run_url",
]
