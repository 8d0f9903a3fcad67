"""Reading back a whole pipeline run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from parent_runs import parent_run_id

from stockpot.errors import InputError
from stockpot.tracking.recorded import read_pipeline_run
from stockpot.tracking.records import Dataset, ModelRecord
from stockpot.tracking.tracker import Tracker


def test_pipeline_run_is_read_by_an_id_prefix(
    open_tracker: Callable[..., Tracker],
) -> None:
    tracker = open_tracker()
    datasets = [Dataset("digits", "aa", "test"), Dataset("digits", "bb", "test_shift/noise")]
    tracker.start_parent("whole", {"seed": 3, "soups.0.name": "top"}, {}, datasets=datasets)
    tracker.log_text("results/base.json", '{"base": 1}')
    tracker.log_text("results/diagnostics/regime.json", "{}")
    tracker.log_text("report.html", "<p>")
    run_id = parent_run_id(tracker)

    run = read_pipeline_run(tracker.store, run_id[:12])

    assert (run.run_id, run.experiment_id, run.name) == (
        run_id,
        tracker.store.experiment_id,
        "whole",
    )
    assert run.params == {"seed": "3", "soups.0.name": "top"}
    assert run.datasets == {"test": "aa", "test_shift/noise": "bb"}
    assert run.results == {"base.json": '{"base": 1}', "diagnostics/regime.json": "{}"}


def test_pipeline_run_of_another_experiment_is_found(tracker: Tracker, uri: str) -> None:
    run_id = parent_run_id(tracker)
    place = Path(uri.removeprefix("sqlite:///")).parent / "elsewhere"

    elsewhere = Tracker.open(uri, "another experiment", place, offline=False, tags={})

    assert read_pipeline_run(elsewhere.store, run_id).results == {}


def test_run_of_a_model_is_not_a_pipeline_run(tracker: Tracker) -> None:
    tracker.log_model(ModelRecord("greedy", "soup", key="key-of-a-soup"))

    with pytest.raises(InputError, match="the start of one parent run's id, got that of 0"):
        read_pipeline_run(tracker.store, tracker.run_id("key-of-a-soup") or "")


def test_ambiguous_prefix_of_a_pipeline_run_is_an_input_error(
    tracker: Tracker, open_tracker: Callable[..., Tracker]
) -> None:
    open_tracker().start_parent("second run", {}, {})

    with pytest.raises(InputError, match=r"run '': must be a project folder or .* got that of \d+"):
        read_pipeline_run(tracker.store, "")
