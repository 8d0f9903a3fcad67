"""The evaluation of a run of 16 ingredients, with every key it can have, from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

SHIFTS = ("noise", "rotate", "translate")
SOUPS = {"uniform": 16, "greedy": 6, "top 5": 5, "tuned": 6, "pareto": 9}
ENSEMBLES = ("logit ensemble", "probability ensemble", "median ensemble", "stacked ensemble")
PLACES = ("val", "val_shift/mean", "test", *(f"shift/{name}" for name in SHIFTS), "shift/mean")


def judged_evaluation(names: Sequence[str], random: Random) -> dict[str, Any]:
    """Return the manifest of an evaluation of these ingredients."""
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
