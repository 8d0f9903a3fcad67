"""A project that nothing has run in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from projects import PARAMS

from stockpot.config import load_experiment
from stockpot.experiment.plan import Plan
from stockpot.storage.project import Project


@pytest.fixture
def make_new_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """Return what makes a plan with overrides, in a fresh project with device slots of its own."""
    root = tmp_path / "new project #1 of 50%20"
    root.mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = root / "params.yaml"
    path.write_text(yaml.safe_dump(PARAMS, sort_keys=False), encoding="utf-8")

    def make(*overrides: str) -> Plan:
        return Plan(Project(root, path), load_experiment(path, overrides))

    return make


@pytest.fixture
def new_plan(make_new_plan: Callable[..., Plan]) -> Plan:
    return make_new_plan()
