from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_context import make_context_of
from torch import Tensor

from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.shapley import every_subset
from stockpot.diagnostics.soup_size import fit, gain, slope_error, soup_size
from stockpot.workloads.spec import WorkloadSpec

SPEC = WorkloadSpec("toy_workload:Toy", 0, ("near",), (), (("sizes", "60,4"),))


def _finding(root: Path, weights: list[Tensor]) -> Finding:
    states = [{"weight": weight} for weight in weights]
    return soup_size(make_context_of(SPEC, root, {"weight": torch.eye(2)}, states))


def _noisy(number: int, size: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(number, 2, 2, generator=generator)
    return [torch.eye(2) + size * one for one in noise]


def test_a_curve_of_the_form_is_fitted_exactly_whatever_one_alone_scores() -> None:
    means = {size: 0.9 - 0.2 / size for size in range(2, 8)} | {1: 0.1}

    level, slope = fit(means)

    assert (level, slope) == pytest.approx((0.9, -0.2))


def test_the_gain_by_hand() -> None:
    found = gain(4, 4, slope=-0.8, error=0.0)

    assert found["value"] == pytest.approx(0.1)  # 0.8 / 4 - 0.8 / 8
    assert found["low"] == found["high"] == found["value"]
    low = gain(4, 1, slope=-0.8, error=0.1)["low"]
    assert low == pytest.approx(0.04 - 3.1824 * 0.005, abs=1e-6)


def test_the_error_of_the_slope_covers_other_ingredients_and_other_examples() -> None:
    """Score a mean by a quadratic form: then the slope is known, here minus the dimension."""
    dimension, num, num_examples = 4, 6, 80
    generator = np.random.default_rng(0)
    slopes, errors = [], []
    for _ in range(60):
        ingredients = generator.normal(size=(num, dimension))
        examples = generator.normal(size=(num_examples, dimension))
        by_size, scores = np.zeros((num, num_examples)), {}
        for subset in every_subset(num)[1:]:
            values = -((examples @ ingredients[list(subset)].mean(axis=0)) ** 2)
            scores[subset] = float(values.mean())
            by_size[len(subset) - 1] += values
        counts = np.bincount([len(subset) for subset in scores])[1:]
        by_size /= counts[:, None]
        slopes.append(fit(dict(enumerate(by_size.mean(axis=1), 1)))[1])
        errors.append(slope_error(scores, by_size))

    assert np.mean(slopes) == pytest.approx(-dimension, abs=3 * np.std(slopes) / np.sqrt(60))
    assert np.mean(errors) == pytest.approx(np.std(slopes), rel=0.3)


def test_ingredients_that_average_well_are_told_from_those_that_do_not(tmp_path: Path) -> None:
    better = _finding(tmp_path / "a", _noisy(8, 0.7))
    same = _finding(tmp_path / "b", [torch.eye(2)] * 8)

    curve = better.data["curves"]["val"]
    assert curve["mean"][-1] > curve["mean"][0]
    assert curve["slope"] < 0
    assert all(low <= high for low, high in zip(curve["low"], curve["high"], strict=True))
    assert curve["low"][-1] == curve["high"][-1] == curve["mean"][-1]
    assert same.metrics == pytest.approx(dict.fromkeys(better.metrics, 0), abs=1e-9)
    assert "training more is not worth it" in same.sentence
    assert json.dumps(better.to_json(), allow_nan=False)


def test_where_the_mean_gets_worse_more_ingredients_are_advised_against(tmp_path: Path) -> None:
    sideways = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    weights = [torch.eye(2) + (3 + n / 8) * (-1) ** n * sideways for n in range(8)]

    finding = _finding(tmp_path, weights)

    assert finding.data["curves"]["val_shift"]["as_many_again"]["high"] < 0
    assert "would make the mean worse on val shifts" in finding.sentence


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "one ingredient"), (2, "at least 4"), (3, "at least 4"), (4, "4 more ingredients")],
)
def test_few_ingredients_are_said_to_be_few(tmp_path: Path, number: int, words: str) -> None:
    finding = _finding(tmp_path, _noisy(number, 0.7))

    assert words in finding.sentence
