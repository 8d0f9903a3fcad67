"""The distance of weights from their start, against the logarithm of the number of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.finding import Finding
from stockpot.statistics.values import Floats
from stockpot.storage.models import Model

_FEWEST = 4  # points of a fit of two numbers
_WARMUP = 0.1  # of a run that does not name its own


def log_distance(context: DiagnosticContext) -> Finding:
    """Fit each run's distance from its start by a + b log(steps), from what the run recorded.

    Steps of the warmup are left out, since the learning rate still rises. For comparison, a line in
    the root of steps is fitted, which is ordinary diffusion. Nothing is trained or scored.

    Source: Hoffer et al. 2017, https://arxiv.org/abs/1705.08741, section 3 ("ultra-slow
    diffusion"), there of runs from random weights at a constant rate.
    """
    models = [one.model for one in (context.base, *context.ingredients)]
    runs = [model for model in models if "epoch" not in model.details]  # snapshots are of runs
    fitted = [fit for model in runs if (fit := _fit(model)) is not None]
    if not fitted:
        return Finding(
            f"No run recorded enough distances from its start: a fit needs {_FEWEST} after the "
            "warmup, and imported models have none."
        )
    of_ingredients = [fit for fit in fitted if fit["name"] != context.base.name] or fitted
    metrics = {
        "mean_r2": fmean(fit["r2"] for fit in of_ingredients),
        "lowest_r2": min(fit["r2"] for fit in of_ingredients),
        "mean_r2_of_root": fmean(fit["r2_of_root"] for fit in of_ingredients),
        "mean_slope": fmean(fit["slope"] for fit in of_ingredients),
    }
    left_out = [model.name for model in runs if model.name not in {fit["name"] for fit in fitted}]
    data = {"runs": fitted, "left_out": left_out}
    return Finding(describe(len(of_ingredients), metrics, left_out), metrics, data)


def line_fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Return intercept, slope and R^2 of the least-squares line through points.

    Args:
        x: at least two different values.
        y: as many, not all equal.
    """
    across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    slope, intercept = np.polyfit(across, up, 1)
    rest: Floats = up - (intercept + slope * across)
    r2 = 1 - float(rest @ rest) / float(((up - up.mean()) ** 2).sum())
    return float(intercept), float(slope), r2


def _fit(model: Model) -> dict[str, Any] | None:
    """Return the fits of one run; None if it has too few points, or did not move."""
    points = model.details.get("distances", [])
    if not points:
        return None
    how = model.details.get("hyperparameters", {})
    first = round(float(how.get("warmup", _WARMUP)) * points[-1][0])
    used = [(steps, far) for steps, far in points if steps >= first]
    if len(used) < _FEWEST or len({far for _, far in used}) == 1:
        return None
    steps, distances = zip(*used, strict=True)
    intercept, slope, r2 = line_fit([float(np.log(one)) for one in steps], distances)
    _, _, of_root = line_fit([float(np.sqrt(one)) for one in steps], distances)
    return {
        "name": model.name,
        "points": [list(point) for point in points],
        "first": first,
        "intercept": round(intercept, 6),
        "slope": round(slope, 6),
        "r2": round(r2, 4),
        "r2_of_root": round(of_root, 4),
    }


def describe(count: int, metrics: Mapping[str, float], left_out: Sequence[str]) -> str:
    """Explain which law the distances follow."""
    log, root = metrics["mean_r2"], metrics["mean_r2_of_root"]
    law = "the logarithm" if log >= root else "the root"
    runs = f"{count} runs" if count > 1 else "one run"
    sentence = (
        f"After the warmup, the distance of {runs} from the start follows {law} of the number of "
        f"steps more closely: a line in the logarithm explains {100 * log:.1f} % of its variance "
        f"(at least {100 * metrics['lowest_r2']:.1f} %), a line in the root {100 * root:.1f} %."
    )
    if left_out:
        sentence += f" Without distances, or with too few: {', '.join(left_out)}."
    return sentence
