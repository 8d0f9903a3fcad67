"""Models made in this process, and plans whose base is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stockpot.config import load_experiment
from stockpot.experiment.jobs.job import ModelJob, make_model
from stockpot.experiment.plan import Plan
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project

MakePlan = Callable[..., Plan]


def made(job: ModelJob) -> Model:
    """Make a model, which must not fail."""
    model = make_model(job, "cpu")
    assert isinstance(model, Model), model
    return model


def after_the_base(root: Path, text: str) -> MakePlan:
    """Return what plans an experiment with overrides, once its base is made."""
    params = root / "params.yaml"
    params.write_text(text, encoding="utf-8")

    def make(*overrides: str) -> Plan:
        plan = Plan(Project(root, params), load_experiment(params, overrides))
        base = made(plan.base_job()).to_json()
        write_manifest(root, "base", {"base": base, "files": {}, "inputs": ""})
        return plan

    return make
