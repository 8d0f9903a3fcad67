from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from stockpot.reporting.plots.contributions import contributions
from stockpot.reporting.plots.soup_size import soup_size

SVG = "{http://www.w3.org/2000/svg}"


def _row(number: int, value: float, places: tuple[str, ...]) -> dict[str, Any]:
    return {
        "ingredient": f"ingredient-{number:02d}",
        "shapley": dict.fromkeys(places, value),
        "error": dict.fromkeys(places, 0.001),
        "change": dict.fromkeys(places, -value),
    }


def _contributions(num: int, places: tuple[str, ...] = ("val", "val_shift")) -> dict[str, Any]:
    rows = [_row(number, number / 1000, places) for number in range(num)]
    groups = [{"name": "all ingredients", "rows": rows}, {"name": "greedy", "rows": rows[:2]}]
    return {"metric": "accuracy", "places": list(places), "groups": groups}


def _soup_size(num: int) -> dict[str, Any]:
    mean = [0.9 + 0.05 * n / num for n in range(num)]
    curve = {"mean": mean, "low": [m - 0.01 for m in mean], "high": [m + 0.01 for m in mean]}
    fitted = {"level": 0.95, "slope": -0.05}
    return {
        "metric": "accuracy",
        "num_ingredients": num,
        "curves": {"val": curve | fitted, "val_shift": curve},
    }


def _drawn(svg: str | None) -> tuple[list[str], list[str]]:
    """Return the texts and the tooltips of a plot, which is whole."""
    assert svg is not None
    root = ElementTree.fromstring(svg)
    texts = [node.text or "" for node in root.iter() if node.tag == f"{SVG}text"]
    return texts, [node.text or "" for node in root.iter() if node.tag == f"{SVG}title"]


def test_ingredients_are_in_the_order_of_their_worth() -> None:
    texts, tips = _drawn(contributions(_contributions(5)))

    names = [text for text in texts if text.startswith("ingredient-")]
    assert names[:5] == [f"ingredient-{n:02d}" for n in (4, 3, 2, 1, 0)]
    assert {"all ingredients: Shapley value", "greedy: Shapley value"} <= set(texts)
    assert "ingredient-04: +0.4 points on val" in tips


def test_of_many_ingredients_both_ends_are_drawn() -> None:
    texts, _ = _drawn(contributions(_contributions(50, ("val",))))

    names = [text for text in texts if text.startswith("ingredient-")]
    assert len(names) == 30 + 2
    assert {"ingredient-49", "ingredient-00"} <= set(names)
    assert "ingredient-25" not in names


def test_scores_by_size_are_drawn_with_the_fit() -> None:
    texts, tips = _drawn(soup_size(_soup_size(4)))

    assert {"on val", "on val shifts (mean)", "fit: a + b / number", "80 % band"} <= set(texts)
    assert "2 of 4 ingredients, on val: 91.2" in tips
