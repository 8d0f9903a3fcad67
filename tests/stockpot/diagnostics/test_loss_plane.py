from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_context import initial_state, make_context, moved
from poisoned_sweep import make_digits, quick_sweep

from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.loss_plane import Plane, grid_size, loss_plane
from stockpot.diagnostics.states import mean_state


def _plane(second: tuple[float, float, float], third: tuple[float, float, float]) -> Plane | None:
    rows = np.array([second, third])
    return Plane.through(rows @ rows.T)


def test_a_plane_through_the_origin_and_two_points_by_hand() -> None:
    plane = _plane((3, 0, 0), (4, 5, 0))

    assert plane == Plane(length=3, along=4, height=5)


def test_coordinates_of_the_corners_lead_back_to_them() -> None:
    rows = torch.randn(2, 7, generator=torch.Generator().manual_seed(0)).double().numpy()
    gram = rows @ rows.T
    plane = Plane.through(gram)
    assert plane is not None

    shares = [plane.coefficients(*plane.place(gram[:, place])) for place in range(2)]

    np.testing.assert_allclose(shares, [[0, 1, 0], [0, 0, 1]], atol=1e-12)
    assert plane.coefficients(0, 0) == (1, 0, 0)


def test_a_point_off_the_plane_is_projected() -> None:
    plane = _plane((2, 0, 0), (0, 2, 0))
    assert plane is not None

    assert plane.place(np.array([2 * 1.5, 2 * -4.0])) == (1.5, -4)


@pytest.mark.parametrize(
    ("second", "third"),
    [
        ((1, 0, 0), (3, 0, 0)),
        ((1, 0, 0), (-1, 0, 0)),
        ((0, 0, 0), (1, 0, 0)),
        ((1, 1, 1), (1, 1, 1)),
    ],
)
def test_three_points_on_a_line_span_no_plane(
    second: tuple[float, float, float], third: tuple[float, float, float]
) -> None:
    assert _plane(second, third) is None


@pytest.mark.parametrize(
    ("num_weights", "expected"),
    [
        (3_000, (21, 256)),
        (3_500_000, (21, 256)),
        (3_600_000, (17, 256)),
        (12_000_000, (11, 256)),
        (22_700_000, (11, 128)),
        (7_000_000_000, (11, 64)),
    ],
)
def test_large_models_have_a_coarser_grid_then_fewer_examples(
    num_weights: int, expected: tuple[int, int]
) -> None:
    assert grid_size(num_weights) == expected


@pytest.fixture(scope="module")
def finding(tmp_path_factory: pytest.TempPathFactory) -> Finding:
    """Of the uniform soup of three good ingredients."""
    sweep = quick_sweep()
    return loss_plane(make_context(tmp_path_factory.mktemp("plane"), sweep.base, sweep.good[:3]))


def test_the_grid_is_around_the_corners_and_names_them(finding: Finding) -> None:
    data = finding.data
    assert data["corners"] == ["base", "ingredient-00", "uniform"]
    assert np.array(data["losses"]).shape == (21, 21)
    base = data["models"][0]
    assert (base["x"], base["y"], base["off"]) == (0, 0, 0)
    corners = {model["name"]: model for model in data["models"] if model["name"] in data["corners"]}
    assert all(model["off"] < 0.02 for model in corners.values())
    assert corners["ingredient-00"]["y"] == pytest.approx(0, abs=1e-4)
    assert "uniform is at the minimum" in finding.sentence
    json.dumps(finding.to_json(), allow_nan=False)


def test_the_standard_error_is_that_of_the_third_corner(finding: Finding) -> None:
    assert 0 < finding.data["standard_error"] < 0.1
    assert f"error of the last: {finding.data['standard_error']:.2g}" in finding.sentence


def test_the_losses_around_a_corner_enclose_that_of_the_model_there(finding: Finding) -> None:
    data = finding.data
    x, y, losses = np.array(data["x"]), np.array(data["y"]), np.array(data["losses"])

    for model in [model for model in data["models"] if model["name"] in data["corners"]]:
        column, row = np.abs(x - model["x"]).argmin(), np.abs(y - model["y"]).argmin()
        around = losses[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        assert around.min() - 1e-3 <= model["loss"] <= around.max() + 1e-3


def test_where_the_soup_is_the_best_ingredient_another_ingredient_spans_the_plane(
    tmp_path: Path,
) -> None:
    base = initial_state(make_digits())
    states = [moved(base, 0.3, seed) for seed in range(2)]
    soups = {"greedy": states[0]}

    data = loss_plane(make_context(tmp_path, base, states, soups)).data

    assert data["corners"] == ["base", "ingredient-00", "ingredient-01"]


def test_without_a_plane_nothing_is_shown(tmp_path: Path) -> None:
    base = initial_state(make_digits())
    other = moved(base, 0.3, 0)
    half = mean_state([base, other])

    one = loss_plane(make_context(tmp_path / "one", base, [other]))
    on_a_line = loss_plane(replace(make_context(tmp_path / "b", base, [other, half]), soups=()))

    assert (one.data, on_a_line.data) == ({}, {})
    assert "no plane" in one.sentence
