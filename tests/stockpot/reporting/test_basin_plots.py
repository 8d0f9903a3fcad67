"""The plots of barriers, similarity, gradient groups and the loss plane."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from stockpot.diagnostics.similarity import cluster
from stockpot.reporting.plots.barriers import barriers
from stockpot.reporting.plots.gradient_groups import gradient_groups
from stockpot.reporting.plots.loss_plane import loss_plane
from stockpot.reporting.plots.similarity import similarity

Plot = Callable[[Mapping[str, Any]], str | None]


def _names(count: int) -> list[str]:
    return [f"ingredient-{number:02d}" for number in range(count)]


def _matrix(count: int, value: float, diagonal: float) -> list[list[float]]:
    return [[diagonal if i == j else value for j in range(count)] for i in range(count)]


def _barriers(count: int = 3) -> dict[str, Any]:
    line = {"from": "base", "to": "greedy", "shares": [0, 0.5, 1], "losses": [0.3, 0.2, 0.1]}
    lines = [line | {"kind": "base_to_soup"}, line | {"kind": "furthest_two"}]
    changes = _matrix(count, 0.012, 0.0)
    return {
        "metric": "accuracy",
        "ingredients": _names(count),
        "metric_changes": changes,
        "lines": lines,
    }


def _similarity(count: int = 3) -> dict[str, Any]:
    cosines = np.full((count, count), 0.4) + 0.6 * np.eye(count)
    cosines[count - 1, : count - 1] = cosines[: count - 1, count - 1] = -0.1
    found = cluster(cosines)
    return {
        "ingredients": _names(count),
        "cosines": cosines.tolist(),
        "cut": 0.9,
        "order": found["order"],
        "links": found["links"],
    }


def _gradient_groups(count: int = 3) -> dict[str, Any]:
    names = _names(count)
    return {
        "ingredients": names,
        "cosines": _matrix(count, -0.2, 1.0),
        "groups": [
            {"ingredients": names[1:], "metric": 0.9, "loss": 0.1},
            {"ingredients": names[:1], "metric": 0.8, "loss": 0.2},
        ],
    }


def _loss_plane(count: int = 3) -> dict[str, Any]:
    x = np.linspace(-1, 2, 21)
    models = [("base", "base", 0, 0), ("greedy", "soup", 0.5, 0.8), ("tuned", "tuned", 0.4, 0.7)]
    models += [(name, "ingredient", 1 + i / 10, i / 10) for i, name in enumerate(_names(count))]
    return {
        "corners": ["base", "ingredient-00", "greedy"],
        "x": x.tolist(),
        "y": x.tolist(),
        "losses": (0.1 + (x[:, None] - 0.5) ** 2 + (x - 0.5) ** 2).tolist(),
        "models": [
            {"name": name, "kind": kind, "x": x, "y": y, "off": 0.2, "loss": 0.1}
            for name, kind, x, y in models
        ],
    }


PLOTS: dict[str, tuple[Plot, Callable[[], dict[str, Any]]]] = {
    "barriers": (barriers, _barriers),
    "similarity": (similarity, _similarity),
    "gradient_groups": (gradient_groups, _gradient_groups),
    "loss_plane": (loss_plane, _loss_plane),
}
every_plot = pytest.mark.parametrize(("plot", "data"), PLOTS.values(), ids=PLOTS.keys())


def _draw(plot: Plot, data: Mapping[str, Any]) -> str:
    svg = plot(data)
    assert svg is not None
    return svg


@every_plot
def test_a_plot_is_one_labelled_element_in_the_colours_of_the_page(
    plot: Plot, data: Callable[[], dict[str, Any]]
) -> None:
    svg = _draw(plot, data())

    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root[0].text
    assert root[1].text
    assert "<image" not in svg
    assert re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", svg)) == []


def test_the_tooltip_of_a_pair_has_its_sign_and_its_names() -> None:
    svg = _draw(barriers, _barriers())

    assert "ingredient-02: +1.2 with ingredient-00" in svg
    assert "base to greedy, 50 %: loss 0.2" in svg


def test_one_ingredient_has_lines_but_no_pairs_and_without_lines_no_plot() -> None:
    alone = _barriers(1)

    assert "midpoint" not in _draw(barriers, alone).partition("</desc>")[2]
    assert barriers(alone | {"lines": []}) is None


def test_the_cells_follow_the_order_of_the_tree() -> None:
    data = _similarity(4)
    svg = _draw(similarity, data)

    shown = re.findall(r">(ingredient-\d\d)<", svg)
    expected = [data["ingredients"][place] for place in data["order"]]
    assert shown == [*expected[:-1], *expected[1:]]


def test_groups_are_lettered_and_their_soups_scored() -> None:
    svg = _draw(gradient_groups, _gradient_groups())

    assert ">A ingredient-01</text>" in svg
    assert "<title>ingredient-02: \N{MINUS SIGN}0.20 with ingredient-01</title>" in svg
    assert "group B: its soup scores 80.0 % on val" in svg


def test_the_corners_are_named_and_the_others_have_tooltips() -> None:
    svg = _draw(loss_plane, _loss_plane())

    for name in ("base", "ingredient-00", "greedy"):
        assert f">{name}</text>" in svg
    assert ">ingredient-01</text>" not in svg
    assert "ingredient-01: loss 0.1, 0.2 off the plane" in svg
