"""The plots of the diagnostics that compare representations, regimes and predictions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

import pytest

from stockpot.reporting.plots.diversity import diversity
from stockpot.reporting.plots.geometry import geometry
from stockpot.reporting.plots.regime import regime

Plot = Callable[[Mapping[str, Any]], str | None]


def _names(count: int) -> list[str]:
    return [f"ingredient-{number:02d}" for number in range(count)]


def _matrix(count: int, value: float, diagonal: float) -> list[list[float]]:
    return [[diagonal if i == j else value for j in range(count)] for i in range(count)]


def _geometry(count: int = 3) -> dict[str, Any]:
    def row(name: str, kind: str) -> dict[str, Any]:
        others = None if count == 1 and kind == "ingredient" else [0.9, 0.8]
        return {
            "name": name,
            "kind": kind,
            "inputs": None,
            "targets": [0.4, 0.6],
            "ingredients": others,
        }

    soup = row("greedy", "soup") | {"variance_ratio": [0.9, None]}
    return {
        "layers": ["features", "head"],
        "ingredients": _names(count),
        "pairs": {"mean": _matrix(count, 0.83, 1.0)},
        "models": [row("base", "base"), *(row(n, "ingredient") for n in _names(count)), soup],
        "best_soup": "greedy",
    }


def _regime(count: int = 3) -> dict[str, Any]:
    def row(name: str, kind: str) -> dict[str, Any]:
        return {
            "name": name,
            "kind": kind,
            "displacement": 0.4,
            "ntk_distance": 0.1,
            "representation_alignment": 0.95,
        }

    return {
        "models": [*(row(n, "ingredient") for n in _names(count)), row("greedy", "soup")],
        "gaps": [{"name": name, "relative": 0.4} for name in ("average of all", "greedy")],
    }


def _diversity(count: int = 3) -> dict[str, Any]:
    one = {
        "pairs": _matrix(count, 0.05, 0.0),
        "disagreement": 0.05,
        "ensemble_gain": 0.02,
        "soup_gains": {"greedy": 0.021},
    }
    return {"ingredients": _names(count), "sets": {"val": one, "val_shift/blur": one}}


PLOTS: dict[str, tuple[Plot, Callable[..., dict[str, Any]]]] = {
    "geometry": (geometry, _geometry),
    "regime": (regime, _regime),
    "diversity": (diversity, _diversity),
}
every_plot = pytest.mark.parametrize(("plot", "make"), PLOTS.values(), ids=PLOTS.keys())


def _draw(plot: Plot, data: Mapping[str, Any]) -> str:
    svg = plot(data)
    assert svg is not None
    return svg


def _tips(svg: str) -> list[str]:
    return re.findall("<title>([^<]*)</title>", svg)


@every_plot
@pytest.mark.parametrize("count", [2, 3, 26])
def test_a_plot_is_one_valid_element_in_the_pages_colours(
    plot: Plot, make: Callable[..., dict[str, Any]], count: int
) -> None:
    svg = _draw(plot, make(count))

    assert ElementTree.fromstring(svg).get("role") == "img"
    assert re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg)) == []


@every_plot
def test_a_plot_is_the_same_each_time(plot: Plot, make: Callable[..., dict[str, Any]]) -> None:
    assert _draw(plot, make()) == _draw(plot, make())


def test_a_heat_map_has_a_cell_a_pair_and_numbers_where_there_is_room() -> None:
    few, many = (_draw(geometry, _geometry(count)) for count in (3, 13))

    assert [tip for tip in _tips(few) if "with" in tip] == [
        "ingredient-01: 0.83 with ingredient-00",
        "ingredient-02: 0.83 with ingredient-00",
        "ingredient-02: 0.83 with ingredient-01",
    ]
    assert few.count(">0.83</text>") == 3
    assert len([tip for tip in _tips(many) if "with" in tip]) == 13 * 12 / 2
    assert ">0.83</text>" not in many


def test_one_ingredient_has_curves_and_no_heat_map() -> None:
    svg = _draw(geometry, _geometry(1))

    assert not [tip for tip in _tips(svg) if "with" in tip]
    assert "greedy, variance, features: 0.90" in _tips(svg)


def test_a_layer_without_variance_leaves_a_gap_in_its_curve() -> None:
    assert "greedy, variance, head" not in _draw(geometry, _geometry())


def test_without_kernels_the_representations_are_drawn() -> None:
    data = _regime()
    for row in data["models"]:
        row["ntk_distance"] = None

    svg = _draw(regime, data)

    assert "change of the representation" in svg
    assert "greedy: weights moved 40 %, change of the representation 0.050" in _tips(svg)


def test_gaps_that_have_no_share_are_left_out() -> None:
    data = _regime()
    data["gaps"] = [{"name": "average of all", "relative": None}]

    assert "Soup minus ensemble" not in _draw(regime, data)


def test_the_gains_on_each_set_have_tooltips() -> None:
    tips = _tips(_draw(diversity, _diversity()))

    assert "greedy: +2.1 points on val_shift/blur" in tips
    assert "logit ensemble: +2.0 points on val" in tips
