"""Merges along a run are refused before any work if there is no run to merge along."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stockpot.config import load_experiment
from stockpot.disk_merging.merge_files.rule_section import RuleSection
from stockpot.errors import InputError
from stockpot.experiment.run_checks import check_runs

PARAMS = "sweep: {size: 1, min_ingredients: 1, snapshots: 2, space: {epochs: 3}}\n"
SOUP = "soups: [{name: late, select: uniform, method: wsm}]\n"


def test_a_soup_along_a_run_needs_checkpoints_of_it(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS + SOUP)
    saved = load_experiment(tmp_path / "params.yaml", [])
    unsaved = load_experiment(tmp_path / "params.yaml", ["sweep.snapshots=0"])

    check_runs(saved)
    with pytest.raises(InputError, match=r"soups: 'late': wsm merges .*, got sweep.snap"):
        check_runs(unsaved)


def test_a_soup_of_adapters_needs_them_in_the_sweep(tmp_path: Path) -> None:
    soup = "soups: [{name: cores, select: uniform, core_space: true}]\n"
    (tmp_path / "params.yaml").write_text(PARAMS.replace("snapshots: 2, ", "") + soup)
    without = load_experiment(tmp_path / "params.yaml", [])
    trained = load_experiment(tmp_path / "params.yaml", ["sweep.space.adapter=lora"])

    check_runs(trained)
    with pytest.raises(InputError, match=r"'cores': core_space merges .* adapters \['none'\]"):
        check_runs(without)


def test_a_rule_cannot_keep_the_order_of_a_run() -> None:
    with pytest.raises(
        ValidationError, match="rules: wsm merges checkpoints in the order of their run"
    ):
        RuleSection(match="*", method="wsm")
