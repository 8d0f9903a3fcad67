"""A run of 16 ingredients with all that evaluation and diagnostics write, made up from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from stockpot.reporting.results import Results

SHIFTS = ("noise", "rotate", "translate")
SOUPS = {"uniform": 16, "greedy": 6, "top 5": 5, "tuned": 6, "pareto": 9}
ENSEMBLES = ("logit ensemble", "probability ensemble", "median ensemble", "stacked ensemble")
PLACES = ("val", "val_shift/mean", "test", *(f"shift/{name}" for name in SHIFTS), "shift/mean")


def judged_results(num_ingredients: int = 16, diagnostics: Sequence[str] = ()) -> Results:
    """Return manifests with every key of the contract between evaluation and report.

    Args:
        num_ingredients: how many there are; ingredient-03 was kept out of the soups.
        diagnostics: names of findings to put in; with a sentence and an alert, without data.
    """
    random = Random(0)
    names = [f"ingredient-{number:02d}" for number in range(num_ingredients)]
    evaluation = _evaluation(names, random)
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
    """Return an MLflow run id a model."""
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


def _evaluation(names: Sequence[str], random: Random) -> dict[str, Any]:
    quality = {"base": 0.94, **{name: 0.95 + 0.02 * random.random() for name in names}}
    quality |= {name: 0.975 + 0.01 * random.random() for name in (*SOUPS, *ENSEMBLES)}
    kinds = {"base": "base", **dict.fromkeys(names, "ingredient")}
    kinds |= dict.fromkeys(("uniform", "greedy", "top 5"), "soup")
    kinds |= dict.fromkeys(("tuned", "pareto"), "tuned")
    kinds |= dict.fromkeys(ENSEMBLES, "ensemble")
    models = [
        _judged(number, name, kind, quality[name], random)
        for number, (name, kind) in enumerate(kinds.items())
    ]
    return {
        "metric": "accuracy",
        "best_ingredient": names[1],
        "best_soup": max(SOUPS, key=lambda name: _val(models, name)),
        "confidence": 0.95,
        "bootstrap": 2000,
        "num_val": 400,
        "num_test": 397,
        "val_shifts": ["blur"],
        "test_shifts": list(SHIFTS),
        "models": models,
        "comparisons": _comparisons(random),
        "greedy": [{"soup": "greedy", "steps": _steps(names)}],
        "random_soups": _random_soups(models, random),
        "wise_ft": [_path(name) for name in ("uniform", "greedy")],
        "effective_robustness": {
            "slope": 0.5,
            "intercept": 0.0,
            "scale": "probit",
            "num_fitted": len(names),
            "rows": [
                {"model": name, "kind": kinds[name], "gain": 0.03, "low": 0.01, "high": 0.05}
                for name in (names[0], *SOUPS)
            ],
        },
        "reliability": {
            name: {"bins": _bins(0.06), "scaled": _bins(0.01)}
            for name in (names[1], *SOUPS, "logit ensemble")
        },
        "conformal": [
            {
                "model": name,
                "alpha": 0.1,
                "coverage": 0.91,
                "low": 0.88,
                "high": 0.94,
                "mean_size": 1.04,
            }
            for name in (names[1], "greedy")
        ],
    }


def _val(models: Sequence[dict[str, Any]], name: str) -> float:
    [score] = [model["metrics"]["val/accuracy"] for model in models if model["name"] == name]
    return float(score)


def _judged(number: int, name: str, kind: str, quality: float, random: Random) -> dict[str, Any]:
    metrics: dict[str, float] = {"temperature": 1.2}
    for place in PLACES:
        accuracy = quality - (0.2 if "shift" in place else 0) + 0.005 * random.random()
        metrics |= {
            f"{place}/accuracy": accuracy,
            f"{place}/accuracy_low": accuracy - 0.02,
            f"{place}/accuracy_high": min(accuracy + 0.02, 1.0),
            f"{place}/balanced_accuracy": accuracy - 0.002,
            f"{place}/f1_macro": accuracy - 0.003,
            f"{place}/nll": 3 * (1 - accuracy),
            f"{place}/brier": 1.5 * (1 - accuracy),
            f"{place}/ece": 0.6 * (1 - accuracy),
            f"{place}/nll_scaled": 2.7 * (1 - accuracy),
            f"{place}/ece_scaled": 0.3 * (1 - accuracy),
        }
    num_models = 16 if kind == "ensemble" else 1
    return {
        "name": name,
        "kind": kind,
        "key": f"{number:020x}",
        "digest": "" if kind == "ensemble" else f"{number:064x}",
        "cost": {
            "num_models": num_models,
            "num_params": 36690 * num_models,
            "bytes": 147704 * num_models,
            "flops": 1_250_000 * num_models,
        },
        "metrics": metrics,
    }


def _comparisons(random: Random) -> list[dict[str, Any]]:
    rows = []
    for place in ("shift", "test"):
        for name in (*SOUPS, *ENSEMBLES):
            difference = (0.03 if place == "shift" else 0.004) + 0.01 * random.random()
            found = place == "shift" and name != "top 5"
            rows.append(
                {
                    "model": name,
                    "reference": "ingredient-01",
                    "place": place,
                    "difference": difference,
                    "low": difference - 0.015,
                    "high": difference + 0.015,
                    "p": 0.0002 if found else 0.11,
                    "p_holm": 0.002 if found else 0.44,
                    "test": "sign flips" if place == "shift" else "mcnemar",
                    "n": 397,
                    "won": 40 if found else 8,
                    "lost": 12 if found else 6,
                    "detectable": 0.021,
                    "outcome": "better" if found else "no difference",
                }
            )
    return rows


def _steps(names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "ingredient": name,
            "accepted": number < 4,
            "difference": 0.005,
            "p": 0.4,
            "won": 4,
            "lost": 2,
            "n": 400,
            "within_noise": number != 1,
        }
        for number, name in enumerate(names)
    ]


def _random_soups(models: Sequence[dict[str, Any]], random: Random) -> dict[str, Any]:
    scored = {model["name"]: model["metrics"] for model in models}
    sets = {"val": "val", "test": "test", "shift": "shift/mean"}
    rows = []
    for name, size in SOUPS.items():
        for pool in ("matched", "any"):
            for place, where in sets.items():
                mean = scored[name][f"{where}/accuracy"] - 0.004 * random.random()
                rows.append(
                    {
                        "model": name,
                        "place": place,
                        "pool": pool,
                        "size": size if pool == "matched" else None,
                        "mean": mean,
                        "sd": 0.004,
                        "ri": 0.31,
                        "low": -0.2,
                        "high": 0.8,
                        "percentile": 0.72,
                    }
                )
    return {"draws": 32, "seed": 0, "rows": rows}


def _path(name: str) -> dict[str, Any]:
    alphas = [step / 10 for step in range(11)]
    rise = [alpha * (1.6 - 0.7 * alpha) for alpha in alphas]  # highest at 1.0, but for rounding
    best = max(rise)
    return {
        "model": name,
        "alphas": alphas,
        "val": [
            round(0.94 + 0.04 * r / best, 3) - (0.002 if a == 1 else 0)
            for a, r in zip(alphas, rise, strict=True)
        ],
        "test": [0.94 + 0.035 * r / best for r in rise],
        "shift": [0.72 + 0.06 * r / best for r in rise],
    }


def _bins(gap: float) -> list[dict[str, float]]:
    centres = [0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.97]
    return [
        {"confidence": c, "accuracy": max(c - gap, 0.0), "count": 10 + 40 * place}
        for place, c in enumerate(centres)
    ]


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
