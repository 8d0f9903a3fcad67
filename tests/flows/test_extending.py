"""The page on extending stockpot: its examples, taken from the page, pass their checks and run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from projects import PARAMS, REPOSITORY, ProjectFolder

PAGE = (REPOSITORY / "docs" / "how-to" / "extend.md").read_text(encoding="utf-8")
NAMES = ("my_method", "my_selection", "my_search", "my_diagnostic", "my_metric")


def blocks(language: str) -> list[str]:
    """Return the page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    """Return a project with the modules of the page, which names them."""
    project = ProjectFolder.around(tmp_path)
    project.root.mkdir()
    for name, code in zip(NAMES, blocks("python"), strict=True):
        assert f"`{name}.py`" in PAGE
        (project.root / f"{name}.py").write_text(code, encoding="utf-8")
    (named,) = blocks("yaml")
    changed = yaml.safe_load(named)
    evaluate = PARAMS["evaluate"] | changed.pop("evaluate")
    project.write_params(PARAMS | changed | {"evaluate": evaluate})
    return project


@pytest.mark.full
def test_the_examples_pass_their_checks_and_run_with_no_change_to_stockpot(
    project: ProjectFolder, prefect_url: str
) -> None:
    project.environment["PREFECT_API_URL"] = prefect_url
    (commands,) = blocks("sh")

    checks = project.finish("bash", "-e", "-c", commands)
    run = project.stockpot("run")

    assert checks.code == 0, checks.output
    assert run.code == 0, run.output
    models = {m["name"]: m["metrics"] for m in project.manifest("evaluate")["models"]}
    assert {"clipped", "near the best", "between two"} <= models.keys()
    assert "test/margin" in models["clipped"]
    assert "is furthest from the base" in (project.root / "results" / "report.html").read_text()
    trials = project.manifest("tune")["tuned"][0]["trials"]
    assert len(trials) == 6  # five shares, then the result

    before = project.digests()
    helper = project.root / "my_method.py"
    helper.write_text(helper.read_text().replace("limit <= 0", "limit < 1e-9"), encoding="utf-8")
    project.stockpot("soups")

    after = project.digests()
    assert {name for name in after if after[name] != before[name]} <= {"clipped"}


def test_plugins_that_cannot_be_used_are_all_refused_before_any_work(
    project: ProjectFolder,
) -> None:
    mistakes = {
        "soups.0.method=my_method:clippedmean": "did you mean 'clipped_mean'",
        "soups.1.margin=-1": "margin: must be greater than or equal to 0",
        "tune.0.stepps=2": "unknown field 'stepps'",
        "diagnose=[my_diagnostic:distance]": "did you mean 'distances'",
        "evaluate.metrics=[my_metrics:margin]": "module 'my_metrics' cannot be imported",
    }

    run = project.stockpot("status", *(f"--set={mistake}" for mistake in mistakes))

    assert run.code == 2, run.output
    message = re.sub(r"[\s│]+", " ", run.output)
    assert [words for words in mistakes.values() if words not in message] == []
