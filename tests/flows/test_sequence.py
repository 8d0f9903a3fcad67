"""Two tasks in sequence, by the command: what it prints, writes and records."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import yaml
from projects import PARAMS, ProjectFolder

_SPACE = {
    "learning_rate": 3e-3,
    "epochs": 1,
    "anchor": "base",
    "anchor_loss": "distil",
    "anchor_data": "pretrain",
    "average": "swa",
    "average_start": 1,
    "swa_start": 0.0,
    "average_every": 10,
}


@pytest.mark.full
def test_a_sequence_is_recorded_and_done_once(make_project: Callable[..., ProjectFolder]) -> None:
    project = make_project()
    for name, classes in (("first", "0-4"), ("second", "5-9")):
        workload = {"name": "digits", "options": {"classes": classes}}
        task = {"workload": workload, "sweep": {"size": 1, "min_ingredients": 1, "space": _SPACE}}
        text = yaml.safe_dump(PARAMS | task)
        (project.root / f"{name}.yaml").write_text(text, encoding="utf-8")

    first = project.stockpot("sequence", "first.yaml", "second.yaml")
    times = project.times()
    second = project.stockpot("sequence", "first.yaml", "second.yaml")

    assert first.code == 0, first.output
    assert second.output == first.output
    written = json.loads((project.root / "results" / "sequence.json").read_text(encoding="utf-8"))
    assert [model["name"] for model in written["ingredients"]] == ["task-01", "task-02"]
    weights = {path: time for path, time in times.items() if path.endswith(".safetensors")}
    assert weights.items() <= project.times().items()
    names = [run.name for run in project.mlflow_runs()]
    assert {"base", "task-01", "task-02", "sequence of 2 tasks"} <= {*names}
    assert names.count("task-01") == 1
