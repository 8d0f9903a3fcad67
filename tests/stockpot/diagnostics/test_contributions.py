from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_context import make_context_of
from torch import Tensor

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.contributions import contributions, standard_errors
from stockpot.diagnostics.finding import Finding
from stockpot.workloads.spec import WorkloadSpec

SPEC = WorkloadSpec("toy_workload:Toy", 0, ("near",), (), (("sizes", "60,4"),))
GOOD = torch.eye(2)


def _subjects(
    root: Path, weights: Sequence[Tensor], greedy: Sequence[int] = (), spec: WorkloadSpec = SPEC
) -> DiagnosticContext:
    """Make ingredients of these weights, and a greedy soup of some of them."""
    states = [{"weight": weight} for weight in weights]
    context = make_context_of(spec, root, {"weight": torch.zeros(2, 2)}, states)
    coefficients = {f"ingredient-{n:02d}": 1 / len(greedy) for n in greedy}
    details = {"coefficients": coefficients, "steps": [{"accepted": True}]}
    (soup,) = context.soups
    chosen = replace(soup, model=replace(soup.model, name="greedy", details=details))
    return replace(context, soups=(chosen, soup) if greedy else (soup,))


def _rows(finding: Finding, group: int = 0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = finding.data["groups"][group]["rows"]
    return rows


def test_an_ingredient_that_spoils_the_mean_is_named(tmp_path: Path) -> None:
    finding = contributions(_subjects(tmp_path, [GOOD, GOOD + 0.01, -5 * GOOD]))

    (alert,) = finding.alerts
    bad = _rows(finding)[2]
    assert alert.model == "ingredient-02"
    assert "better on val (60 examples better, 0 worse" in alert.reason
    assert "better on val without ingredient-02: leave it out" in finding.sentence
    assert bad["change"]["val"] == 1
    assert (bad["won"], bad["lost"]) == (60, 0)
    assert finding.metrics["num_harmful"] == 1


def test_rows_say_what_the_mean_scores_without_each(tmp_path: Path) -> None:
    finding = contributions(_subjects(tmp_path, [GOOD, -0.6 * GOOD, -0.6 * GOOD]))

    (group,) = finding.data["groups"]
    assert group["score"]["val"] == 0  # the three sum to a negative multiple of the identity
    assert [row["without"]["val"] for row in group["rows"]] == [0, 1, 1]
    assert [row["change"]["val"] for row in group["rows"]] == [0, 1, 1]
    total = group["score"]["val"] - group["base"]["val"]
    assert sum(row["shapley"]["val"] for row in group["rows"]) == pytest.approx(total)


def test_the_best_greedy_soup_is_looked_at_too(tmp_path: Path) -> None:
    weights = [GOOD, 2 * GOOD, -GOOD, 3 * GOOD]

    finding = contributions(_subjects(tmp_path, weights, greedy=[0, 3]))

    names = [group["name"] for group in finding.data["groups"]]
    assert names == ["all ingredients", "greedy"]
    assert [row["ingredient"] for row in _rows(finding, 1)] == ["ingredient-00", "ingredient-03"]
    assert "the 2 ingredients of 'greedy'" in finding.sentence


@pytest.mark.parametrize("greedy", [[0, 1, 2], [1], []])
def test_a_greedy_soup_of_all_or_of_one_needs_no_look_of_its_own(
    tmp_path: Path, greedy: list[int]
) -> None:
    finding = contributions(_subjects(tmp_path, [GOOD, 2 * GOOD, 3 * GOOD], greedy))

    assert len(finding.data["groups"]) == 1


def test_of_one_ingredient_there_is_nothing_to_see(tmp_path: Path) -> None:
    finding = contributions(_subjects(tmp_path, [GOOD]))

    assert "one ingredient" in finding.sentence
    assert (finding.data, finding.metrics, finding.alerts) == ({}, {}, ())


def test_identical_ingredients_are_worth_the_same_and_none_is_missed(tmp_path: Path) -> None:
    finding = contributions(_subjects(tmp_path, [GOOD] * 9))

    rows = _rows(finding)
    assert {row["change"]["val"] for row in rows} == {0}
    values = [row["shapley"]["val"] for row in rows]
    np.testing.assert_allclose(values, values[0])
    assert finding.alerts == ()


def test_a_finding_is_json_without_val_shifts_too(tmp_path: Path) -> None:
    spec = replace(SPEC, val_shifts=())

    finding = contributions(_subjects(tmp_path, [GOOD, -GOOD], spec=spec))

    assert json.dumps(finding.to_json(), allow_nan=False)
    assert finding.data["places"] == ["val"]


def test_standard_errors_are_those_of_means() -> None:
    values = np.array([[0.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0]])

    assert standard_errors(values) == pytest.approx([np.sqrt(1 / 12), 0])
    assert standard_errors(values[:, :1]) == pytest.approx([0, 0])
