"""The records of a sequence of tasks: its models, their scores on all tasks, what is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from stockpot.tracking.manifests import record_from_manifest
from stockpot.tracking.records import Dataset, ModelRecord
from stockpot.tracking.tracker import Tracker


@contextmanager
def sequence_run(tracker: Tracker, tasks: Sequence[str]) -> Iterator[None]:
    """Start the parent run of a sequence, and end it with its status.

    Args:
        tracker: without an open run.
        tasks: the names of the tasks' params files, in order.
    """
    params = {f"tasks.{number}": name for number, name in enumerate(tasks, start=1)}
    tracker.start_parent(f"sequence of {len(tasks)} tasks", params=params, tags={})
    with tracker.open_parent():
        yield


def record_of_task(
    model: Mapping[str, Any],
    parents: Mapping[str, str],
    *,
    workload: str,
    sets: Mapping[str, str],
    files: Mapping[str, str],
) -> ModelRecord:
    """Build the record of the base, or of the model after a task.

    Args:
        model: its entry in the manifest.
        parents: content keys of the models that it was made from, by name.
        workload: the name of the task's workload.
        sets: content digests of the data that it was trained and scored on, by set.
        files: text files of its run, by name.
    """
    datasets = [Dataset(workload, digest, name) for name, digest in sets.items()]
    record = record_from_manifest(model, keys=parents, datasets=datasets)
    return replace(record, files=files)


def log_sequence(tracker: Tracker, manifest: Mapping[str, Any]) -> None:
    """Record what a sequence keeps, and the scores on each task after each task as curves."""
    tasks = [f"task-{number:02d}" for number in range(1, len(manifest["tasks"]) + 1)]
    columns = zip(*manifest["scores"], strict=True)
    curves = {
        f"test/{manifest['metric']}/{task}": tuple(column)
        for task, column in zip(tasks, columns, strict=True)
    }
    kept = {f"sequence/{name}": value for name, value in manifest["kept"].items()}
    tracker.log_parent_metrics(kept, curves)
