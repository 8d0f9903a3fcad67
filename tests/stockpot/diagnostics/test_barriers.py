from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_context import make_context
from poisoned_sweep import State, Sweep, hyperparameters, make_digits, quick_sweep

from stockpot.diagnostics import context
from stockpot.diagnostics.barriers import apart, barriers, changes, midpoints
from stockpot.diagnostics.states import mean_state
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.metric_units import Unit


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return quick_sweep()


def _point(x: float) -> State:
    return {"w": torch.tensor([float(x)])}


def _score(state: State) -> tuple[float, float]:
    """Score -1, 0 and 1 by x^2, with 3 - x^2 as the loss."""
    squared = float(state["w"].square())
    return squared, 3 - squared


def test_pairs_are_scored_at_the_midpoint_against_the_mean_of_the_two() -> None:
    metrics, losses = midpoints([_point(-1), _point(1), _point(1)], _score, mean_state)

    assert metrics.tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]
    assert changes(metrics)[0].tolist() == [0, -1, -1]
    assert changes(losses)[1].tolist() == [1, 0, 0]


def test_the_change_is_from_the_mean_of_two_unequal_scores() -> None:
    scores = np.array([[1.0, 5.0], [5.0, 3.0]])

    assert changes(scores).tolist() == [[0, 3], [3, 0]]


def test_statistics_of_batch_norm_are_pooled_half_way() -> None:
    states = [
        {"n.running_mean": torch.tensor([mean]), "n.running_var": torch.tensor([1.0])}
        for mean in (-1.0, 1.0)
    ]

    metrics, _ = midpoints(states, lambda state: (float(state["n.running_var"]), 0.0), mean_state)

    assert metrics.tolist() == [[1, 2], [2, 1]]


def test_ingredients_of_one_base_have_no_barrier_and_a_model_none_with_itself(
    tmp_path: Path, sweep: Sweep
) -> None:
    states = [*sweep.good[:3], sweep.good[0]]

    finding = barriers(make_context(tmp_path, sweep.base, states))

    assert "averaging them is safe" in finding.sentence
    assert finding.metrics["loss_barrier"] < 0.01
    assert finding.data["metric_changes"][0][3] == pytest.approx(0, abs=1e-6)
    assert finding.data["loss_changes"][0][3] == pytest.approx(0, abs=1e-6)
    assert [line["kind"] for line in finding.data["lines"]] == ["base_to_soup", "furthest_two"]
    line = finding.data["lines"][1]
    ends = [finding.data["ingredients"].index(line[end]) for end in ("from", "to")]
    assert len(line["losses"]) == 11
    assert [line["metrics"][0], line["metrics"][-1]] == [
        finding.data["midpoint_metrics"][end][end] for end in ends
    ]
    json.dumps(finding.to_json(), allow_nan=False)


def test_two_trainings_from_different_initialisations_have_one(
    tmp_path: Path, sweep: Sweep
) -> None:
    other = fine_tune(make_digits(), None, hyperparameters(epochs=16, seed=5), split="train")

    finding = barriers(make_context(tmp_path, sweep.base, [sweep.other_start, other]))

    assert finding.metrics["metric_barrier"] > 0.1
    assert finding.metrics["loss_barrier"] > 0.1
    assert "do not share a basin" in finding.sentence
    assert finding.alerts == ()  # of two, nobody is the odd one


@pytest.mark.parametrize("poison", ["other_start", "shuffled"])
def test_the_one_that_does_harm_is_named(tmp_path: Path, sweep: Sweep, poison: str) -> None:
    states = [*sweep.good[:2], getattr(sweep, poison), *sweep.good[2:4]]

    finding = barriers(make_context(tmp_path, sweep.base, states))

    assert [alert.model for alert in finding.alerts] == ["ingredient-02"]
    assert "ingredient-02 should not be averaged" in finding.sentence


def test_of_two_camps_nobody_is_named() -> None:
    camps = np.array([[0.9 if i // 2 == j // 2 else 0.3 for j in range(4)] for i in range(4)])

    assert apart(list("abcd"), camps, Unit("accuracy")) == []


def test_what_is_no_fraction_is_measured_by_a_usual_score() -> None:
    def named(fall: float) -> list[str]:
        """Let the means with the last of four models be worse by so much."""
        odd = [[-40.0 - fall * (i != j and 3 in (i, j)) for j in range(4)] for i in range(4)]
        unit = Unit("minus_error", is_fraction=False, size=40.0)
        return [alert.reason for alert in apart(list("abcd"), np.array(odd), unit)]

    assert named(1.9) == []  # below a twentieth of 40
    assert named(2.1) == [
        "between it and most other ingredients is a barrier of 2.1 in minus_error"
    ]


def test_one_ingredient_without_soups_has_nothing_to_compare(tmp_path: Path, sweep: Sweep) -> None:
    context = replace(make_context(tmp_path, sweep.base, [sweep.good[0]]), soups=())

    finding = barriers(context)

    assert finding.sentence.startswith("There is only one ingredient")
    assert finding.metrics == {}


def test_large_models_are_scored_on_a_sample_whose_error_is_stated(
    tmp_path: Path, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = make_context(tmp_path, sweep.base, sweep.good[:3])
    monkeypatch.setattr(context, "MOST_WORK", 1.0)

    finding = barriers(subjects)

    error = finding.data["standard_error"]
    assert finding.data["sample"] == 128
    assert 0 <= error < 0.05
    assert f"on 128 random examples of val, standard error up to {100 * error:.2f}" in (
        finding.sentence
    )
    scored = np.array(finding.data["midpoint_metrics"]) * 128
    np.testing.assert_allclose(scored, scored.round(), atol=1e-4)
