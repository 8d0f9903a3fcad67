"""The run of judged_results as one of a regression: errors in a unit of their own."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from judged_results import judged_results

from stockpot.reporting.results import Results

FACTOR = 50.0  # errors in the target's unit for each point that is missing to an accuracy of 1
_OF_CLASSES = ("effective_robustness", "reliability", "conformal")
_SCORED = ("score", "best", "mean", "val", "test", "shift")  # keys and lists of scores
_MOVED = ("difference", "low", "high", "detectable", "sd")  # keys of differences of scores


def errors_judged() -> Results:
    """Return manifests whose first metric is `minus_error`, about -2 of a score of 0.96."""
    results = judged_results()
    content = json.loads(json.dumps(asdict(results)).replace("accuracy", "minus_error"))
    evaluation = {k: v for k, v in content["evaluation"].items() if k not in _OF_CLASSES}
    known = {"minus_error": False, "rmse": False}
    content["evaluation"] = evaluation | {"is_fraction": known}
    content["sweep"]["precheck"]["certificate"] = None  # it is of what is right or wrong
    return Results(**{name: _errors(part) for name, part in content.items()})


def _errors(part: Any, key: str = "") -> Any:
    """Turn each accuracy below `part` into minus an error; what is none stays."""
    if isinstance(part, dict):
        return {
            name: _errors(value, name)
            for name, value in part.items()
            if not name.rpartition("/")[2].startswith(("nll", "ece", "brier", "f1", "balanced"))
        }
    if isinstance(part, list):
        return [_errors(value, "score" if key == "values" else key) for value in part]
    if not isinstance(part, float):
        return part
    if "minus_error" in key or key in _SCORED:
        return FACTOR * (part - 1)
    return FACTOR * part if key in _MOVED else part
