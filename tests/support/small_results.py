"""The results of a small run: two ingredients, one failed; two soups, two studies.

The uniform soup loses, the greedy one wins under shift.
"""

from __future__ import annotations

import copy
from typing import Any

from stockpot.reporting.results import Results

DIGEST = "ab" * 32


def _model(name: str, kind: str, val: float, val_shift: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "key": "0123456789abcdef0123",
        "digest": DIGEST,
        "path": f"checkpoints/{kind}s/0123456789abcdef0123.safetensors",
        "bytes": 160000,
        "num_params": 40000,
        "scores": {"val/accuracy": val, "val/loss": 0.1, "val_shift/mean/accuracy": val_shift},
        **more,
    }


def _around(name: str, value: float, half: float = 0.02) -> dict[str, float]:
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def _judged(
    name: str, kind: str, val: float, test: float, shift: float, num_models: int = 1
) -> dict[str, Any]:
    metrics = {
        **_around("val/accuracy", val),
        **_around("test/accuracy", test),
        **_around("shift/noise/accuracy", shift + 0.1),
        **_around("shift/occlude/accuracy", shift - 0.1),
        **_around("shift/mean/accuracy", shift),
        "val_shift/mean/accuracy": shift + 0.01,
    }
    if name != "ingredient-01":
        metrics |= _around("difference/test/accuracy", test - 0.95, 0.01)
        metrics |= _around("difference/shift/mean/accuracy", shift - 0.8, 0.01)
    cost = {"num_models": num_models, "num_params": 40000, "bytes": 160000}
    return {
        "name": name,
        "kind": kind,
        "key": "k",
        "digest": DIGEST,
        "cost": cost,
        "metrics": metrics,
    }


def _compared(model: dict[str, Any], place: str, name: str) -> dict[str, Any]:
    """Return a test of the difference to the best ingredient, which goes with its interval."""
    difference, low, high = (model["metrics"][f"{name}{end}"] for end in ("", "_low", "_high"))
    found = low > 0 or high < 0
    sure = "better" if difference > 0 else "worse"
    return {
        "model": model["name"],
        "reference": "ingredient-01",
        "place": place,
        "difference": difference,
        "low": low,
        "high": high,
        "p": 0.0001 if found else 0.21,
        "p_holm": 0.0008 if found else 0.42,
        "test": "mcnemar" if place == "test" else "sign flips",
        "n": 1397,
        "won": 20 + max(round(1397 * difference), 0),
        "lost": 20 + max(round(-1397 * difference), 0),
        "detectable": 0.013,
        "outcome": sure if found else "no difference",
    }


_HYPERPARAMETERS = [
    {"learning_rate": 0.001, "epochs": 4, "batch_size": 32, "mixup": 0.0, "seed": 11},
    {"learning_rate": 0.0025, "epochs": 8, "batch_size": 32, "mixup": 0.2, "seed": 12},
]

_BASE = {"inputs": "i", "base": _model("base", "base", 0.9, 0.6)}
_SWEEP = {
    "inputs": "i",
    "ingredients": [
        _model("ingredient-00", "ingredient", 0.94, 0.76, hyperparameters=_HYPERPARAMETERS[0]),
        _model("ingredient-01", "ingredient", 0.96, 0.8, hyperparameters=_HYPERPARAMETERS[1]),
    ],
    "failed": [
        {
            "name": "ingredient-02",
            "key": "k",
            "hyperparameters": _HYPERPARAMETERS[0],
            "reason": "loss became nan at step 12 of 330",
        }
    ],
}
_SOUPS = {
    "inputs": "i",
    "soups": [
        _model(
            "uniform",
            "soup",
            0.955,
            0.81,
            recipe={"name": "uniform", "select": "uniform", "method": "linear"},
            coefficients={"ingredient-00": 0.5, "ingredient-01": 0.5},
            steps=[],
        ),
        _model(
            "greedy",
            "soup",
            0.96,
            0.82,
            recipe={"name": "greedy", "select": "greedy", "method": "linear"},
            coefficients={"ingredient-01": 1.0},
            steps=[
                {"ingredient": "ingredient-01", "score": 0.96, "accepted": True, "best": 0.96},
                {"ingredient": "ingredient-00", "score": 0.955, "accepted": False, "best": 0.96},
            ],
        ),
    ],
}
_TUNE = {
    "inputs": "i",
    "tuned": [
        _model(
            "tuned",
            "tuned",
            0.97,
            0.83,
            recipe={"name": "tuned", "objectives": ["val"], "sampler": "tpe", "trials": 3},
            coefficients={"ingredient-00": 1.25, "ingredient-01": -0.25},
            trials=[
                {"number": 0, "values": [0.955], "source": "uniform"},
                {"number": 1, "values": [0.97], "source": "sampler"},
                {"number": 2, "values": [0.4], "source": "sampler"},
            ],
            front=[],
        ),
        _model(
            "both",
            "tuned",
            0.95,
            0.85,
            recipe={"name": "both", "objectives": ["val_shift", "val"], "sampler": "nsga2"},
            coefficients={"ingredient-00": 0.4, "ingredient-01": 0.6},
            trials=[
                {"number": 0, "values": [0.8, 0.96], "source": "best single"},
                {"number": 1, "values": [0.7, 0.9], "source": "sampler"},
                {"number": 2, "values": [0.85, 0.95], "source": "sampler"},
            ],
            front=[
                {"number": 0, "values": [0.8, 0.96], "coefficients": {"ingredient-01": 1.0}},
                {
                    "number": 2,
                    "values": [0.85, 0.95],
                    "coefficients": {"ingredient-00": 0.4, "ingredient-01": 0.6},
                },
            ],
        ),
    ],
}
_EVALUATION: dict[str, Any] = {
    "inputs": "i",
    "best_ingredient": "ingredient-01",
    "best_soup": "tuned",
    "metric": "accuracy",
    "num_test": 1397,
    "test_shifts": ["noise", "occlude"],
    "val_shifts": ["blur"],
    "confidence": 0.95,
    "models": [
        _judged("base", "base", 0.9, 0.89, 0.6),
        _judged("ingredient-00", "ingredient", 0.94, 0.93, 0.76),
        _judged("ingredient-01", "ingredient", 0.96, 0.95, 0.8),
        _judged("uniform", "soup", 0.955, 0.93, 0.77),
        _judged("greedy", "soup", 0.96, 0.951, 0.841),
        _judged("tuned", "tuned", 0.97, 0.955, 0.805),
        _judged("both", "tuned", 0.95, 0.945, 0.85),
        _judged("logit ensemble", "ensemble", 0.97, 0.955, 0.85, num_models=2),
    ],
}
_EVALUATION["comparisons"] = [
    _compared(model, place, f"difference/{where}/accuracy")
    for model in _EVALUATION["models"][3:]
    for place, where in (("shift", "shift/mean"), ("test", "test"))
]
_EVALUATION["greedy"] = [
    {
        "soup": "greedy",
        "steps": [
            {
                "ingredient": "ingredient-00",
                "accepted": False,
                "difference": -0.005,
                "p": 0.69,
                "won": 2,
                "lost": 4,
                "n": 400,
                "within_noise": True,
            }
        ],
    }
]
_EXPERIMENT = {
    "seed": 7,
    "workload": {"name": "digits", "val_shifts": ["blur"], "test_shifts": ["noise", "occlude"]},
    "soups": [{"name": "uniform", "select": "uniform"}],
    "evaluate": {"bootstrap": 2000, "confidence": 0.95},
    "track": {"experiment": "digits study"},
}


def small_results() -> Results:
    """Return new copies of all manifests."""
    manifests: list[dict[str, Any]] = [_BASE, _SWEEP, _SOUPS, _TUNE, _EVALUATION]
    return Results(*copy.deepcopy(manifests))


def small_experiment() -> dict[str, Any]:
    """Return params.yaml of that run, as a plain mapping."""
    return copy.deepcopy(_EXPERIMENT)
