"""The example of imported checkpoints, quickly trained, and one more that has code in it."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from projects import REPOSITORY, ProjectFolder

EXAMPLE = REPOSITORY / "examples" / "import_checkpoints"
REDUCED = (
    "sweep.size=1",
    "sweep.space={learning_rate: 0.004, epochs: 1}",
    "sweep.precheck.on_fail=warn",
    "workload.val_shifts=[blur]",
    "workload.test_shifts=[noise]",
    "diagnose=[]",
    "evaluate={bootstrap: 100, random_soups: 0, repeats: {m: 0}}",
)


class _Code:
    """What makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._mark),)


def test_the_example_makes_soups_of_checkpoints_in_all_forms(
    make_project: Callable[..., ProjectFolder],
) -> None:
    project = make_project(**yaml.safe_load((EXAMPLE / "params.yaml").read_text(encoding="utf-8")))
    for name in ("prepare.py", "run.sh"):
        shutil.copy(EXAMPLE / name, project.root)
    prepared = project.finish("python", "prepare.py", "--quick")
    assert prepared.code == 0, prepared.output
    mark = project.root / "was-here"
    (project.root / "runs" / "run-9.pt").write_bytes(pickle.dumps(_Code(mark)))
    options = [part for override in REDUCED for part in ("--set", override)]

    finished = project.finish("sh", "run.sh", *options)

    assert finished.code == 0, finished.output
    sweep = project.manifest("sweep")
    names = [f"imported-run-{number}" for number in range(1, 7)]
    assert [model["name"] for model in sweep["ingredients"]] == [*names, "ingredient-00"]
    assert [model.get("source") for model in sweep["ingredients"]] == [
        *("runs/run-1.safetensors", "runs/run-2.pt", "runs/run-3", "runs/run-4.ckpt"),
        *("runs/run-5.safetensors", "runs/run-6", None),
    ]
    assert [model["hyperparameters"]["learning_rate"] for model in sweep["ingredients"][:6]] == [
        *(0.004, 0.006, 0.008, 0.003, 0.005, 0.002)
    ]
    failed = {failure["name"]: failure["reason"] for failure in sweep["failed"]}
    assert "values are NaN or infinite" in failed["imported-run-7"]
    assert "another head" in failed["imported-run-8"]
    assert "not a file of weights alone" in failed["imported-run-9"]
    assert not mark.exists()
    runs = {run.name: run.tags for run in project.mlflow_runs()}
    assert runs["imported-run-3"]["stockpot.source"] == "runs/run-3"
    assert runs["base"]["stockpot.source"] == "runs/base.safetensors"
    assert [model["name"] for model in project.manifest("soups")["soups"]] == [
        *("greedy", "uniform", "imported")
    ]
