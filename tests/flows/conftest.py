"""The command in the process of the tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias
from unittest.mock import patch

import pytest
import yaml
from projects import PARAMS
from typer.testing import CliRunner

from stockpot.errors import InputError, StageFailed

Stockpot: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture
def stockpot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stockpot]:
    """Return what runs the command in this test's folder: exit code and output as one line.

    It runs in this process, which saves the seconds in which a process imports torch.
    """
    from flows.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments)
        if isinstance(result.exception, InputError):
            return 2, str(result.exception)
        if isinstance(result.exception, StageFailed):
            return 1, str(result.exception)
        return result.exit_code, " ".join(result.output.split())

    yield run
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def params_file(tmp_path: Path) -> Iterator[Path]:
    """Write the params file of a project in this test's folder, with the environment its own."""
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(PARAMS, sort_keys=False), encoding="utf-8")
    with patch.dict(os.environ):
        for name in [*os.environ]:
            if name.startswith(("PREFECT_", "MLFLOW_", "STOCKPOT_", "DVC_")):
                del os.environ[name]
        yield path
