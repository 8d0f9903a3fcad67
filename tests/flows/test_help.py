"""The `stockpot` command by itself: its version and the panels of its help."""

from __future__ import annotations

import importlib.metadata

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli import app

PANELS = {
    "Experiment": ["run", "status", "ui", "sequence", "send"],
    "Stages": ["base", "sweep", "soups", "tune", "diagnose", "evaluate", "report", "code"],
    "Models on disk": ["merge", "inspect", "explain", "verify", "extract-lora", "push"],
    "Results": ["compare", "promote", "reproduce", "dimension"],
    "Project": ["new", "check", "doctor", "gc"],
    "Schedule": ["deploy", "worker"],
}


def test_version_is_that_of_the_installed_package() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert result.exit_code == 0
    assert result.output == f"stockpot {importlib.metadata.version('stockpot')}\n"


def test_every_command_is_in_its_panel() -> None:
    listed: dict[str, list[str]] = {}
    for name, command in get_command(app).commands.items():
        listed.setdefault(command.rich_help_panel, []).append(name)

    assert listed == PANELS


@pytest.mark.parametrize("width", ["80", "120"])
def test_paragraphs_fill_the_width_of_the_terminal(width: str) -> None:
    for command in ("merge", "push", "sequence"):
        result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": width})

        about, *_ = result.output.partition("╭")
        for paragraph in about.strip().split(" " * int(width) + "\n"):
            *full, _ = [line.strip() for line in paragraph.splitlines()] or [""]
            assert all(len(line) > int(width) - 22 for line in full), full


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("diagnose", "--set 'diagnose=[barriers, soup_size]'"),
        ("soups", "'soups=[{name: top3, select: top_k, k: 3}]'"),
        ("merge", "models: [fine-tuned-a, {path: fine-tuned-b, coefficient: 0.5}]"),
    ],
)
def test_brackets_of_an_example_are_shown(command: str, example: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120"})

    assert example in result.output
