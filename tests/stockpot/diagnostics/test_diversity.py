from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_context import DIGITS, initial_state, make_context, make_context_of, moved
from torch import Tensor

from stockpot.diagnostics.diversity import (
    disagreement,
    diversity,
    error_correlation,
    kappa,
    q_statistic,
)
from stockpot.workloads.spec import WorkloadSpec

TOY = WorkloadSpec("toy_workload:Toy", seed=0, val_shifts=("near",), options=(("sizes", "40,4"),))

# The class is the larger coordinate: a net that turns the border errs on one side of it.
TURNED = [{"weight": torch.tensor([[1.0, -t], [t, 1.0]])} for t in (0.5, -0.5)]


def _bools(*rows: str) -> Tensor:
    return torch.tensor([[letter == "1" for letter in row] for row in rows])


def test_disagreement_counts_examples_with_different_decisions() -> None:
    predictions = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 0], [1, 1, 0, 0]])

    apart = disagreement(predictions)

    expected = [[0, 0.25, 0.75], [0.25, 0, 0.5], [0.75, 0.5, 0]]
    assert apart.tolist() == expected


@pytest.mark.parametrize(
    ("rows", "correlation", "q", "agreement"),
    [
        (("1100", "1100"), 1, 1, 1),  # the same errors
        (("1100", "0011"), -1, -1, -1),  # each right where the other is wrong
        (("1100", "1010"), 0, 0, 0),  # independent
        (("1111", "1010"), None, None, 1 / 3 - 1 / 3 + 1 - 0.25 / (0.75 * 0.25)),
        (("1111", "1111"), None, None, None),  # no errors
    ],
)
def test_measures_of_errors_of_two_models_by_hand(
    rows: tuple[str, str], correlation: float | None, q: float | None, agreement: float | None
) -> None:
    right = _bools(*rows)

    found = error_correlation(right), q_statistic(right), kappa(right)

    assert found == pytest.approx((correlation, q, agreement))


def test_kappa_of_three_models_by_its_formula() -> None:
    right = _bools("110", "100", "101")  # votes 3, 1, 1 of 3; right on 5 of 9

    assert kappa(right) == pytest.approx(1 - ((0 + 2 + 2) / (3 * 3 * 2)) / (5 / 9 * 4 / 9))


def test_ingredients_that_complement_each_other_gain_by_averaging(tmp_path: Path) -> None:
    finding = diversity(make_context_of(TOY, tmp_path, {"weight": torch.eye(2)}, TURNED))

    on_val = finding.data["sets"]["val"]
    assert list(finding.data["sets"]) == ["val", "val_shift/near"]
    assert on_val["disagreement"] > 0.05
    assert on_val["oracle"] >= on_val["best_score"] >= on_val["mean_score"]
    # A linear net's soup is its ensemble.
    assert on_val["soup_gains"]["uniform"] == on_val["ensemble_gain"] > 0
    assert "gains as much from these differences as the ensemble" in finding.sentence
    assert finding.metrics["disagreement/val"] == on_val["disagreement"]


def test_identical_ingredients_leave_nothing_to_average(tmp_path: Path) -> None:
    base = initial_state(DIGITS.build())

    finding = diversity(make_context(tmp_path, base, [base, base, base]))

    assert finding.metrics["disagreement/val"] == 0
    assert "nearly the same model" in finding.sentence
    assert json.loads(json.dumps(finding.to_json(), allow_nan=False))


def test_soups_that_miss_the_ensembles_gain_are_said_to(tmp_path: Path) -> None:
    context = make_context_of(
        TOY,
        tmp_path,
        {"weight": torch.eye(2)},
        TURNED,
        {"broken": {"weight": -torch.eye(2)}},
    )

    assert "does not gain what the ensemble does" in diversity(context).sentence


def test_one_ingredient_and_other_tasks_have_nothing_to_compare(tmp_path: Path) -> None:
    base = initial_state(DIGITS.build())
    one = make_context(tmp_path / "one", base, [base], soups={})
    two = make_context(tmp_path / "two", base, [base, moved(base, 0.1, 0)], soups={})
    two.workload.__dict__["task"] = "regression"
    try:
        other = diversity(two)
    finally:
        del two.workload.__dict__["task"]

    assert "no predictions to compare" in diversity(one).sentence
    assert "has none" in other.sentence
    assert other.data == {}


def test_kept_predictions_are_read_instead_of_passing_the_model_again(tmp_path: Path) -> None:
    base = initial_state(DIGITS.build())
    made = make_context(tmp_path, base, [base, moved(base, 0.5, 0)])
    kept = replace(made, spec=DIGITS)
    first = kept.outputs(kept.ingredients[1], "val_shift/blur")
    (tmp_path / kept.ingredients[1].model.path).unlink()

    again = kept.outputs(kept.ingredients[1], "val_shift/blur")

    assert torch.equal(first, again)
    with pytest.raises(ValueError, match="on val and its shifts, got 'test'"):
        kept.outputs(kept.ingredients[0], "test")
