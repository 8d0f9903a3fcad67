"""Everything that is written to MLflow; importing the package does not import MLflow.

Tracker               one pipeline run in a tracking store: a parent run, and a child run per model
ModelRecord           what is logged of one model
PROVENANCE            the file of a run with everything that is needed to rebuild its model
Dataset               a dataset that a run used
ModelRegistry         the versions of a registered model
RegisteredVersion     one of these versions
RecordedRun           the run of a model, read back
PipelineRun           a whole pipeline run, read back
check_answers         raise an error if a store does not answer
record_from_manifest  build a ModelRecord from an entry of results/*.json
log_results           log a finished experiment to the parent run
flatten               flatten nested mappings to dotted names
is_server             whether an address is that of an MLflow server
experiment_url        URL of an experiment in MLflow's UI
compare_url           URL of the page in MLflow's UI that compares runs
run_url               URL of a run in MLflow's UI
registered_model_url  URL of a registered model in MLflow's UI
"""

from stockpot.tracking.addresses import (
    compare_url,
    experiment_url,
    is_server,
    registered_model_url,
    run_url,
)
from stockpot.tracking.connection import check_answers
from stockpot.tracking.manifests import log_results, record_from_manifest
from stockpot.tracking.recorded import PROVENANCE, PipelineRun, RecordedRun
from stockpot.tracking.records import Dataset, ModelRecord, flatten
from stockpot.tracking.registry import ModelRegistry, RegisteredVersion
from stockpot.tracking.tracker import Tracker

__all__ = [
    "PROVENANCE",
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
    "flatten",
    "is_server",
    "log_results",
    "record_from_manifest",
    "registered_model_url",
    "run_url",
]
