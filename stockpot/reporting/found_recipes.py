"""Results of searches as recipes for `soups` of params.yaml and for `stockpot merge`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from stockpot.reporting.results import ModelEntry, Results


@dataclass(frozen=True, slots=True)
class FoundRecipe:
    """A tuned soup as a recipe.

    Attributes:
        name: of the soup.
        soup: an entry of `soups`.
        merge_file: a file for `stockpot merge`; empty where that has no access to the data needed.
        note: what differs, or what the search did not reach; empty if there is nothing to say.
    """

    name: str
    soup: str
    merge_file: str
    note: str


def found_recipes(results: Results) -> list[FoundRecipe]:
    """Return the recipes of the tuned soups that one merge of their ingredients gives."""
    paths = {model["name"]: model["path"] for model in results.sweep["ingredients"]}
    made = ((soup, _merge_of(soup)) for soup in results.tune["tuned"])
    return [
        FoundRecipe(
            soup["name"],
            _text([{"name": f"{soup['name']} again", "select": "given", **_fields(merge)}]),
            "" if merge["needs_data"] else _text(_merge_file(merge, paths, results)),
            " ".join(_notes(soup, merge)),
        )
        for soup, merge in made
        if merge is not None
    ]


def _merge_of(soup: ModelEntry) -> Mapping[str, Any] | None:
    """Return the merge that a search has recorded; None if no single merge gives the soup."""
    if "merge" in soup:
        recorded: dict[str, Any] = soup["merge"]
        return recorded
    if "order" not in soup:
        return None
    used = [name for name in soup["order"] if name in soup["coefficients"]]
    return {
        "method": "linear",
        "members": used,
        "coefficients": [soup["coefficients"][name] for name in used],
        "uses_base": False,
        "needs_data": False,
        "is_random": False,
    }


def _fields(merge: Mapping[str, Any]) -> dict[str, Any]:
    names = ("method", "options", "members", "coefficients", "rules")
    return {name: merge[name] for name in names if name in merge}


def _merge_file(
    merge: Mapping[str, Any], paths: Mapping[str, str], results: Results
) -> dict[str, Any]:
    models = [
        {"path": paths[name], "coefficient": coefficient}
        for name, coefficient in zip(merge["members"], merge["coefficients"], strict=True)
    ]
    content: dict[str, Any] = {"method": merge["method"], "models": models}
    content |= {"base": results.base["base"]["path"]} if merge["uses_base"] else {}
    content |= {name: merge[name] for name in ("options", "rules") if name in merge}
    return content | ({"seed": merge["seed"]} if merge["is_random"] else {})


def _notes(soup: ModelEntry, merge: Mapping[str, Any]) -> Iterator[str]:
    floor = soup.get("floor")
    if floor and not floor["is_met"]:
        wanted = ", ".join(f"{name} {value:.6g}" for name, value in floor["values"].items())
        yield f"No trial reached the floor ({wanted}); this one missed it least."
    if merge["is_random"] and not merge["needs_data"]:
        yield "stockpot merge draws other random numbers for the same seed."


def _text(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
