"""The keys of a user's models: the code of the workload and of all modules that it imports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from code_caches import forget

from stockpot.config import load_experiment
from stockpot.experiment.plan import Plan
from stockpot.experiment.state import stage_modules, write_code_keys
from stockpot.reporting.pages import template_digests
from stockpot.storage.code_keys import code_key
from stockpot.storage.project import Project

WORKLOAD = '''
from my_helper import width
from stockpot.workloads.digits import Digits


class Mine(Digits):
    """Digits, and a number from another module."""

    width = width
'''
PARAMS = {
    "workload": {"name": "my_own_workload:Mine", "val_shifts": ["blur"], "test_shifts": ["noise"]},
    "sweep": {"size": 4, "space": {"epochs": 1}},
    "soups": [{"name": "uniform", "select": "uniform"}],
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a project's folder with a workload that imports a helper."""
    (tmp_path / "my_own_workload.py").write_text(WORKLOAD)
    (tmp_path / "my_helper.py").write_text("width = 3\n")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget()


@pytest.mark.parametrize(
    ("text", "is_another"),
    [
        ("width = 4\n", True),
        ("# The width.\nwidth = 3\n", False),
        ('"""Numbers."""\n\nwidth = 3\n', False),
    ],
)
def test_an_edited_helper_retrains_the_models_that_use_it(
    project: Path, text: str, is_another: bool
) -> None:
    def keys() -> dict[str, str]:
        forget()
        params = project / "params.yaml"
        plan = Plan(Project(project, params), load_experiment(params))
        stages = ("base", "sweep", "soups")
        of_stages = {stage: code_key(*stage_modules(plan, stage)) for stage in stages}
        return of_stages | {"base job": plan.base_job().key}

    before = keys()
    (project / "my_helper.py").write_text(text)
    after = keys()

    changed = {name for name in before if before[name] != after[name]}
    assert changed == (set(before) if is_another else set())


@pytest.mark.parametrize(
    ("stage", "is_written"),
    [("code", True), ("experiments/dvc.yaml:code", True), ("base", False)],
)
def test_the_code_stage_of_dvc_writes_the_keys_from_any_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch, stage: str, is_written: bool
) -> None:
    params = project / "params.yaml"
    monkeypatch.setenv("DVC_STAGE", stage)

    write_code_keys(Plan(Project(project, params), load_experiment(params)))

    assert (project / "results" / "code" / "base.json").is_file() == is_written


def test_the_report_depends_on_its_templates(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = project / "params.yaml"
    monkeypatch.delenv("DVC_STAGE", raising=False)

    write_code_keys(Plan(Project(project, params), load_experiment(params)))

    written = json.loads((project / "results" / "code" / "report.json").read_text())
    assert "report.html.jinja" in template_digests()
    assert template_digests().items() <= written.items()
