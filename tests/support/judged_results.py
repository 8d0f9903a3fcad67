"""The results of a run of 16 ingredients, with every key that stages write, made up from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from judged_evaluation import SHIFTS, SOUPS, judged_evaluation

from stockpot.reporting.results import Results


def judged_results(num_ingredients: int = 16, diagnostics: Sequence[str] = ()) -> Results:
    """Return manifests with every key of the contract between evaluation and report.

    Args:
        num_ingredients: number of ingredients; ingredient-03 is excluded from the soups.
        diagnostics: names of findings; barriers has an alert, and soup_size has data.
    """
    random = Random(0)
    names = [f"ingredient-{number:02d}" for number in range(num_ingredients)]
    evaluation = judged_evaluation(names, random)
    judged = {model["name"]: model for model in evaluation["models"]}

    def made(name: str, kind: str, **more: Any) -> dict[str, Any]:
        metrics = judged[name]["metrics"]
        scored = ("val/accuracy", "val_shift/mean/accuracy")
        return {
            "name": name,
            "kind": kind,
            "key": judged[name]["key"],
            "digest": judged[name]["digest"],
            "path": f"checkpoints/{kind}/{judged[name]['key']}.safetensors",
            "bytes": 147704,
            "num_params": 36690,
            "scores": {"val/loss": 0.1, **{key: metrics[key] for key in scored}},
            **more,
        }

    soups = [made(n, "soup", **_recipe(n, names, random)) for n in ("uniform", "greedy", "top 5")]
    return Results(
        base={"base": made("base", "base")},
        sweep={
            "ingredients": [
                made(n, "ingredient", hyperparameters=_hyperparameters(random)) for n in names
            ],
            "failed": [
                {
                    "name": "ingredient-16",
                    "key": "k",
                    "hyperparameters": {"learning_rate": 3.0},
                    "reason": "loss became nan at step 12 of 330",
                }
            ],
            "precheck": _precheck(names),
        },
        soups={"soups": soups},
        tune={"tuned": [made(n, "tuned", **_study(n, names, random)) for n in ("tuned", "pareto")]},
        evaluation=evaluation,
        diagnostics={name: _finding(name) for name in diagnostics},
    )


def experiment() -> dict[str, Any]:
    """Return params.yaml of that run, as a plain mapping."""
    return {
        "seed": 7,
        "workload": {"name": "digits", "val_shifts": ["blur"], "test_shifts": list(SHIFTS)},
        "evaluate": {"bootstrap": 2000, "confidence": 0.95},
        "track": {"experiment": "digits study"},
    }


def run_ids(results: Results) -> dict[str, str]:
    """Return one MLflow run id per model."""
    return {
        model["name"]: f"{number:032x}"
        for number, model in enumerate(results.evaluation["models"], start=1)
    }


def _precheck(names: Sequence[str]) -> dict[str, Any]:
    reason = "was not fine-tuned from this base: cosine 0.01 to it"
    checks: list[dict[str, Any]] = [
        {
            "ingredient": name,
            "name": "start",
            "passed": name != names[3],
            "value": 0.01 if name == names[3] else 0.93,
            "limit": 0.5,
            "detail": reason if name == names[3] else "was fine-tuned from this base",
        }
        for name in names
    ]
    data = {"ingredient": None, "name": "val is like train", "passed": True, "value": 2.1}
    checks.append(data | {"limit": 4.2, "detail": "feature 12 differs most, within chance (4.2)"})
    failed = [{"name": names[3], "reason": reason}]
    bound = {"split": "val", "num_examples": 400, "num_wrong": 4, "delta": 0.01, "choices": 34}
    return {
        "checks": checks,
        "failed": failed,
        "excluded": failed,
        "certificate": bound | {"error_below": 0.041},
    }


def _hyperparameters(random: Random) -> dict[str, Any]:
    return {
        "learning_rate": round(10 ** random.uniform(-3, -2), 6),
        "epochs": random.randint(8, 14),
        "batch_size": 16,
        "augmentation": round(random.uniform(0.6, 0.8), 4),
        "seed": random.randrange(2**31),
    }


def _recipe(name: str, names: Sequence[str], random: Random) -> dict[str, Any]:
    chosen = list(names) if name == "uniform" else random.sample(list(names), SOUPS[name])
    steps = []
    if name == "greedy":
        best = 0.96
        for ingredient in names:
            score = 0.95 + 0.03 * random.random()
            accepted = ingredient in chosen
            best = max(best, score) if accepted else best
            step = {"ingredient": ingredient, "score": score, "accepted": accepted, "best": best}
            steps.append(step | {"won": 4, "lost": 2})
    return {
        "recipe": {"name": name, "select": name.split(maxsplit=1)[0], "method": "linear"},
        "coefficients": {ingredient: 1 / len(chosen) for ingredient in chosen},
        "steps": steps,
    }


def _study(name: str, names: Sequence[str], random: Random) -> dict[str, Any]:
    objectives = ["val"] if name == "tuned" else ["val", "val_shift"]
    trials = [
        {
            "number": number,
            "values": [0.95 + 0.03 * random.random() for _ in objectives],
            "source": "uniform" if number == 0 else "sampler",
        }
        for number in range(40)
    ]
    weights = [random.random() for _ in names]
    coefficients = {n: weight / sum(weights) for n, weight in zip(names, weights, strict=True)}
    front = [{**trial, "coefficients": coefficients} for trial in trials[-3:]]
    sampler = "tpe" if name == "tuned" else "nsga2"
    return {
        "recipe": {"name": name, "objectives": objectives, "sampler": sampler, "trials": 40},
        "coefficients": coefficients,
        "trials": trials,
        "front": front if len(objectives) > 1 else [],
    }


def _finding(name: str) -> dict[str, Any]:
    alerts = [{"model": "ingredient-03", "reason": "a loss barrier of 2.31 nats to all others"}]
    return {
        "sentence": f"What {name} says: all but one ingredient lie in one basin.",
        "metrics": {"largest": 2.31},
        "data": _SOUP_SIZE if name == "soup_size" else {},
        "alerts": alerts if name == "barriers" else [],
    }


_CURVE = {
    "mean": [0.95 + 0.02 * (1 - 1 / size) for size in range(1, 17)],
    "low": [0.945 + 0.02 * (1 - 1 / size) for size in range(1, 17)],
    "high": [0.955 + 0.02 * (1 - 1 / size) for size in range(1, 17)],
    "level": 0.97,
    "slope": -0.02,
    "one_more": {"value": 0.0001, "low": -0.0001, "high": 0.0003},
    "as_many_again": {"value": 0.0006, "low": -0.0002, "high": 0.0014},
}
_SOUP_SIZE = {"metric": "accuracy", "num_ingredients": 16, "curves": {"val": _CURVE}}
