from __future__ import annotations

from typing import Any

import pytest
import yaml

from stockpot.reporting.model_card import model_card
from stockpot.reporting.results import Results


def _front_matter(card: str) -> dict[str, Any]:
    _, matter, _ = card.split("---\n", 2)
    content: dict[str, Any] = yaml.safe_load(matter)
    return content


def test_the_front_matter_is_what_the_hub_reads(
    judged: Results, experiment: dict[str, Any]
) -> None:
    matter = _front_matter(model_card(judged, experiment, runs={}, base_model="org/base"))

    [index] = matter["model-index"]
    judged_soup = next(m for m in judged.evaluation["models"] if m["name"] == "greedy")
    assert matter["library_name"] == "pytorch"
    assert matter["base_model"] == "org/base"
    assert "model-soup" in matter["tags"]
    assert index["name"] == "greedy"
    assert index["results"][0] == {
        "task": {"type": "other"},
        "dataset": {"type": "digits", "name": "digits", "split": "test"},
        "metrics": [
            {
                "type": "accuracy",
                "name": "accuracy",
                "value": round(judged_soup["metrics"]["test/accuracy"], 4),
            }
        ],
    }
    assert [result["dataset"]["name"] for result in index["results"][1:]] == [
        "digits, noise",
        "digits, rotate",
        "digits, translate",
    ]


def test_an_unknown_base_is_not_named(judged: Results, experiment: dict[str, Any]) -> None:
    assert "base_model" not in _front_matter(model_card(judged, experiment, runs={}))


def test_the_card_holds_recipe_evaluation_and_where_it_comes_from(
    judged: Results, experiment: dict[str, Any]
) -> None:
    card = model_card(judged, experiment, runs={"greedy": "a1b2"})

    soup = judged.best_soup
    assert soup is not None
    for ingredient in soup["coefficients"]:
        assert f"| {ingredient} | 0.1667 |" in card
    for part in ("stockpot reproduce a1b2", soup["digest"], "- ingredient-03 (excluded"):
        assert part in card
    assert "| best ingredient | " in card
    assert "| uniform |" not in card


def test_a_hostile_name_stays_in_its_cell(judged: Results, experiment: dict[str, Any]) -> None:
    experiment["track"]["experiment"] = "a\n---\n<script>|b"

    card = model_card(judged, experiment, runs={})

    assert "# a --- &lt;script>\\|b: greedy" in card
    assert _front_matter(card)["tags"]


def test_without_a_soup_there_is_no_card(
    plain_results: Results, experiment: dict[str, Any]
) -> None:
    plain_results.soups["soups"] = []
    plain_results.evaluation["models"].pop()

    with pytest.raises(ValueError, match="a model card describes a soup"):
        model_card(plain_results, experiment, runs={})
