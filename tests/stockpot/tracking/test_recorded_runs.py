"""Reading back what was recorded of a model."""

from __future__ import annotations

import pytest

from stockpot.errors import InputError
from stockpot.tracking import PROVENANCE, ModelRecord, Tracker

SOUP = ModelRecord(
    "greedy",
    "soup",
    key="key-soup",
    metrics={"val/accuracy": 0.9},
    files={PROVENANCE: '{"seed": 3}'},
)


def test_a_run_is_read_back_by_the_start_of_its_id(tracker: Tracker) -> None:
    tracker.log_model(SOUP)
    run_id = tracker.run_id("key-soup")
    assert run_id is not None

    run = tracker.recorded_run(run_id[:12])

    assert (run.run_id, run.name, run.kind, run.key) == (run_id, "greedy", "soup", "key-soup")
    assert run.metrics == {"val/accuracy": 0.9}
    assert run.tags["stockpot.git_commit"] == "c0ffee"
    assert run.provenance == '{"seed": 3}'
    assert tracker.recorded_run(run_id) == run


def test_a_run_without_the_file_says_nothing_of_its_making(tracker: Tracker) -> None:
    tracker.log_model(ModelRecord("logit ensemble", "ensemble", key="mean"))

    assert tracker.recorded_run(tracker.run_id("mean") or "").provenance is None


@pytest.mark.parametrize("run_id", ["not an id", "f" * 32])
def test_a_run_that_is_not_there_is_an_input_error(tracker: Tracker, run_id: str) -> None:
    with pytest.raises(InputError, match=rf"run '{run_id}': (not in|must be a model's name or)"):
        tracker.recorded_run(run_id)


def test_a_start_that_several_ids_have_is_an_input_error(tracker: Tracker) -> None:
    tracker.log_model(SOUP)

    with pytest.raises(InputError, match="the start of one run's id, got that of 2"):
        tracker.recorded_run("")


def test_the_run_of_a_whole_pipeline_is_an_input_error(tracker: Tracker) -> None:
    with pytest.raises(InputError, match="must be the run of a model, got 'first run'"):
        tracker.recorded_run(tracker.parent_run_id or "")
