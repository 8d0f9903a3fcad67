"""An experiment's results as data frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stockpot.storage.manifests import read_manifest


@dataclass(frozen=True)
class Results:
    """The results of a finished experiment; every frame is read from `results/`.

    Attributes:
        models: one row per model: kind, and every metric with the ends of its interval.
        ingredients: one row per ingredient: hyperparameters and val scores.
        comparisons: one row per soup and place: the paired difference from the best ingredient
            with its interval, p, and p after Holm's correction.
        coefficients: one row per soup or tuned soup, one column per ingredient.
        steps: one row per decision of the greedy soups; a candidate whose evaluation was stopped
            has no score, but `at_most` and the number of `examples` that were evaluated.
        trials: one row per trial of the coefficient searches.
        best_ingredient: the name of the best ingredient on val.
    """

    models: pd.DataFrame
    ingredients: pd.DataFrame
    comparisons: pd.DataFrame
    coefficients: pd.DataFrame
    steps: pd.DataFrame
    trials: pd.DataFrame
    best_ingredient: str


def load_results(project: str | Path = ".") -> Results:
    """Read the results of an experiment that `stockpot run` has finished.

    Args:
        project: the project's folder, which holds `results/`.

    Raises:
        InputError: a stage has not run, or its manifest is damaged.

    Example:
        >>> import stockpot
        >>> results = stockpot.load_results(finished)
        >>> results.models.loc["greedy", "kind"]
        'soup'
        >>> results.comparisons.query("place == 'shift'").loc["greedy", "reference"]
        'ingredient-02'
        >>> bool(results.coefficients.loc["uniform"].sum().round(6) == 1)
        True
    """
    root = Path(project)
    sweep, soups, tune, judged = (
        read_manifest(root, stage) for stage in ("sweep", "soups", "tune", "evaluate")
    )
    merged = [*soups["soups"], *tune["tuned"]]
    models = [{"name": m["name"], "kind": m["kind"], **m["metrics"]} for m in judged["models"]]
    ingredients = [
        {"name": m["name"], **m["hyperparameters"], **m["scores"]} for m in sweep["ingredients"]
    ]
    coefficients = [{"name": m["name"], **m["coefficients"]} for m in merged]
    steps = [_step(m["name"], step) for m in merged for step in m.get("steps", [])]
    trials = [_trial(m["name"], trial) for m in merged for trial in m.get("trials", [])]
    return Results(
        models=_by_name(models),
        ingredients=_by_name(ingredients),
        comparisons=pd.DataFrame(judged["comparisons"]).set_index("model"),
        coefficients=_by_name(coefficients).fillna(0.0),
        steps=pd.DataFrame(steps),
        trials=pd.DataFrame(trials),
        best_ingredient=judged["best_ingredient"],
    )


def _by_name(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows).set_index("name")


def _step(soup: str, step: Mapping[str, Any]) -> dict[str, Any]:
    whole = {name: value for name, value in step.items() if name != "stopped"}
    stopped = step.get("stopped", {})
    known = {name: stopped[name] for name in ("at_most", "examples") if stopped}
    return {"soup": soup, **whole, **known}


def _trial(study: str, trial: Mapping[str, Any]) -> dict[str, Any]:
    scores = {f"value_{number}": value for number, value in enumerate(trial["values"])}
    return {"study": study, **{k: v for k, v in trial.items() if k != "values"}, **scores}
