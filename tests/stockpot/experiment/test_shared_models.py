"""Two machines with one experiment and a shared store on S3, over a network that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_models import made
from s3_server import faulty_proxy, s3_server

from stockpot.config import load_experiment
from stockpot.experiment.opening import open_store, share_models
from stockpot.experiment.plan import Plan
from stockpot.ingredients.finetuning import loop
from stockpot.storage.digests import file_digest
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project

PARAMS = """
base: {epochs: 1}
sweep: {size: 2, min_ingredients: 2, space: {epochs: 1, learning_rate: {choice: [0.001, 0.002]}}}
soups: [{name: uniform, select: uniform}]
store: s3://models/whole
"""


def _finish(root: Path) -> list[Model]:
    """Make all models of the experiment in a new folder."""
    root.mkdir()
    params = root / "params.yaml"
    params.write_text(PARAMS)
    plan = Plan(Project(root, params), load_experiment(params))
    open_store(plan)
    base = made(plan.base_job())
    write_manifest(root, "base", {"base": base.to_json()})
    ingredients = [made(job) for job in plan.ingredient_jobs()]
    listed = {"ingredients": [model.to_json() for model in ingredients], "failed": []}
    write_manifest(root, "sweep", listed | {"precheck": {"excluded": []}})
    share_models(plan, ["base", "sweep"])
    return [base, *ingredients, *map(made, plan.soup_jobs())]


def test_another_machine_takes_all_models_from_the_store_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server() as s3, faulty_proxy(s3, share=0.2) as proxy:
        for name, value in (s3.environment | {"AWS_ENDPOINT_URL": proxy.endpoint}).items():
            monkeypatch.setenv(name, value)
        s3.files().mkdir("models")
        first = _finish(tmp_path / "a")
        stored = s3.objects("models/whole")

        monkeypatch.delattr(loop, "fine_tune")
        second = _finish(tmp_path / "b")

        assert s3.objects("models/whole") == stored
    assert second == first
    assert len(first) == 4
    for model in second:
        assert file_digest(tmp_path / "b" / model.path) == model.digest
    assert len([name for name in stored if "/models/" in name]) == 4
    assert proxy.counts.total() > proxy.counts["passed"] > 0
