"""`stockpot doctor`: a line per check, what to do, and the exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Stockpot: TypeAlias = Callable[..., tuple[int, str]]


def test_a_fresh_project_has_no_problem(stockpot: Stockpot, params_file: Path) -> None:
    code, output = stockpot("doctor")

    assert code == 0, output
    checks = ("python", "packages", "project", "write access", "locks", "run lock", "device slots")
    checks += ("leftovers", "devices", "disk", "memory", "MLflow", "records", "Prefect")
    assert [name for name in checks if f" {name} " not in output] == []
    assert "problem" not in output
    assert [path.name for path in params_file.parent.iterdir()] == ["params.yaml"]


def test_problems_end_with_code_1_and_say_what_to_do_and_show_no_password(
    stockpot: Stockpot, params_file: Path
) -> None:
    uri = "postgresql://anna:s3cret@127.0.0.1:9/mlflow"

    code, output = stockpot("doctor", "--set", f"track.uri={uri}", "--set", "run.devices=[cuda:7]")

    assert params_file.exists()
    assert code == 1
    assert "problem MLflow postgresql://***@127.0.0.1:9/mlflow: connection refused" in output
    assert "problem devices cuda:7: " in output
    assert "-> correct run.devices, or the driver" in output
    assert "s3cret" not in output


def test_without_a_valid_project_the_other_checks_still_run(
    stockpot: Stockpot, params_file: Path
) -> None:
    params_file.write_text("sweep: {size: few}\n")

    code, output = stockpot("doctor")

    assert code == 1
    assert "problem project params.yaml: sweep.size" in output
    assert "ok Prefect " in output
