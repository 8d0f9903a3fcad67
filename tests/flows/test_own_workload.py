"""The page about one's own workload: its example, taken from the page as it stands, runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from projects import REPOSITORY, ProjectFolder

PAGE = (REPOSITORY / "docs" / "how-to" / "own-workload.md").read_text(encoding="utf-8")
REDUCED = (
    *("--set", "sweep.size=3", "--set", "sweep.min_ingredients=2", "--set", "diagnose=[]"),
    *("--set", "evaluate={bootstrap: 100, random_soups: 0, repeats: {m: 0}}"),
)


def block(language: str) -> str:
    """Return the page's first block of a language."""
    text, *_ = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    """Return a folder with what the page says, and nothing else."""
    project = ProjectFolder.around(tmp_path)
    project.root.mkdir()
    (project.root / "waves.py").write_text(block("python"), encoding="utf-8")
    (project.root / "params.yaml").write_text(block("yaml"), encoding="utf-8")
    return project


def test_the_example_is_short() -> None:
    lines = [line for line in block("python").splitlines() if line.strip()]

    assert len(lines) < 60
    assert ast.parse(block("python"))


@pytest.mark.full
def test_the_example_is_checked_and_runs_with_no_change_to_stockpot(
    project: ProjectFolder, prefect_url: str
) -> None:
    project.environment["PREFECT_API_URL"] = prefect_url
    checks = project.stockpot("check")
    run = project.stockpot("run", *REDUCED)

    assert checks.code == 0, checks.output
    assert "17 ok, 1 skipped" in checks.output
    assert run.code == 0, run.output
    assert [*project.manifest("evaluate")["test_shifts"]] == ["noisier"]
    models = {model["name"]: model["metrics"] for model in project.manifest("evaluate")["models"]}
    assert models["greedy"]["test/accuracy"] > 0.8
    assert (project.root / "results" / "report.html").is_file()


@pytest.mark.slow
def test_val_inside_train_is_refused_before_anything_is_trained(project: ProjectFolder) -> None:
    leaky = block("python").replace("(self.seed, split", "(self.seed, 'all'")
    (project.root / "waves.py").write_text(leaky, encoding="utf-8")

    run = project.stockpot("run")

    assert run.code == 2, run.output
    assert "dataset('val'): must share no example with other splits" in run.output
    assert [*(project.root / "checkpoints").rglob("*.safetensors")] == []
