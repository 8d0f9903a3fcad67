"""Reading back the run of a model."""

from __future__ import annotations

import pytest
from parent_runs import parent_run_id

from stockpot.errors import InputError
from stockpot.tracking.recorded import PROVENANCE, read_recorded_run
from stockpot.tracking.records import ModelRecord
from stockpot.tracking.tracker import Tracker

SOUP = ModelRecord(
    "greedy",
    "soup",
    key="key-soup",
    metrics={"val/accuracy": 0.9},
    files={PROVENANCE: '{"seed": 3}'},
)


def test_run_of_a_model_is_read_by_an_id_prefix(tracker: Tracker) -> None:
    tracker.log_model(SOUP)
    run_id = tracker.run_id("key-soup")
    assert run_id is not None

    run = read_recorded_run(tracker.store, run_id[:12])

    assert (run.run_id, run.name, run.kind, run.key) == (run_id, "greedy", "soup", "key-soup")
    assert run.metrics == {"val/accuracy": 0.9}
    assert run.tags["stockpot.git_commit"] == "c0ffee"
    assert run.provenance == '{"seed": 3}'
    assert read_recorded_run(tracker.store, run_id) == run


def test_run_without_the_provenance_file_has_no_provenance(tracker: Tracker) -> None:
    tracker.log_model(ModelRecord("logit ensemble", "ensemble", key="mean"))

    assert read_recorded_run(tracker.store, tracker.run_id("mean") or "").provenance is None


@pytest.mark.parametrize("run_id", ["not an id", "f" * 32])
def test_unknown_run_is_an_input_error(tracker: Tracker, run_id: str) -> None:
    with pytest.raises(InputError, match=rf"run '{run_id}': (not in|must be a model's name or)"):
        read_recorded_run(tracker.store, run_id)


def test_ambiguous_prefix_is_an_input_error(tracker: Tracker) -> None:
    tracker.log_model(SOUP)

    with pytest.raises(InputError, match="the start of one run's id, got that of 2"):
        read_recorded_run(tracker.store, "")


def test_pipeline_run_in_place_of_a_models_run_is_an_input_error(tracker: Tracker) -> None:
    with pytest.raises(InputError, match="must be the run of a model, got 'first run'"):
        read_recorded_run(tracker.store, parent_run_id(tracker))
