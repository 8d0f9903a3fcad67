"""The verdict on all models: every metric with its interval, and the difference to the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stockpot.evaluation.judging_jobs import JudgingJob
from stockpot.evaluation.predictions import judged_sets, load_predictions, predictions_path
from stockpot.evaluation.statistics import Bootstrap, Estimate, Floats
from stockpot.keys import content_key
from stockpot.models import Model
from stockpot.selection.ranking import rank
from stockpot.workloads.protocol import Metric

_ENSEMBLE = "logit ensemble"

Values = dict[str, Floats]
"""Per-example metric values (N,) by what they are called in the metrics."""


def judge(job: JudgingJob) -> dict[str, Any]:
    """Judge all models by their kept predictions; no forward pass is made.

    Returns:
        The evaluation manifest, without its inputs.
    """
    workload = job.workload.build()
    metric, compute = next(iter(workload.metrics.items()))
    ingredients = tuple(model for model in job.models if model.kind == "ingredient")
    best = ingredients[rank(ingredients, f"val/{metric}")[0]]
    targets = {name: examples.targets for name, examples in judged_sets(workload, "cpu")}
    outputs = {model.name: _predictions(job, model) for model in job.models}
    outputs[_ENSEMBLE] = _logit_mean([outputs[model.name] for model in ingredients])
    values = {
        name: _values(predictions, targets, compute, metric)
        for name, predictions in outputs.items()
    }
    draws = _Draws(job)
    return {
        "metric": metric,
        "best_ingredient": best.name,
        "confidence": job.confidence,
        "bootstrap": job.bootstrap,
        "num_val": len(targets["val"]),
        "num_test": len(targets["test"]),
        "val_shifts": list(job.workload.val_shifts),
        "test_shifts": list(job.workload.test_shifts),
        "models": [
            identity | {"metrics": _metrics(values[name], _reference(values, name, best), draws)}
            for name, identity in _identities(job.models, ingredients)
        ],
    }


def _identities(
    models: Sequence[Model], ingredients: Sequence[Model]
) -> list[tuple[str, dict[str, Any]]]:
    """List who is judged and what a prediction costs."""
    single = [
        (
            model.name,
            {
                "name": model.name,
                "kind": model.kind,
                "key": model.key,
                "digest": model.digest,
                "cost": _cost([model]),
            },
        )
        for model in models
    ]
    key = content_key(ensemble=[model.digest for model in ingredients])
    ensemble = {"name": _ENSEMBLE, "kind": "ensemble", "key": key, "digest": ""}
    return [*single, (_ENSEMBLE, ensemble | {"cost": _cost(ingredients)})]


def _cost(models: Sequence[Model]) -> dict[str, int]:
    return {
        "num_models": len(models),
        "num_params": sum(model.num_params for model in models),
        "bytes": sum(model.bytes for model in models),
    }


def _predictions(job: JudgingJob, model: Model) -> dict[str, Tensor]:
    return load_predictions(predictions_path(job.root, job.workload, model.digest))


def _logit_mean(predictions: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average the outputs of several models, set by set."""
    return {
        name: torch.stack([outputs[name] for outputs in predictions]).mean(dim=0)
        for name in predictions[0]
    }


def _values(
    predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor], compute: Metric, metric: str
) -> Values:
    """Compute per-example values, under the names that metrics have."""
    raw = {
        name: compute(outputs, targets[name]).double().numpy()
        for name, outputs in predictions.items()
    }
    values = {f"{name}/{metric}": raw[name] for name in ("val", "test")}
    for prefix, shown in (("val_shift/", "val_shift"), ("test_shift/", "shift")):
        shifts = {
            name.removeprefix(prefix): v for name, v in raw.items() if name.startswith(prefix)
        }
        values |= {f"{shown}/{name}/{metric}": v for name, v in shifts.items()}
        if shifts:
            # All shifts hold the same examples, so an example's mean over them is one value.
            values[f"{shown}/mean/{metric}"] = np.mean(list(shifts.values()), axis=0)
    return values


class _Draws:
    """One bootstrap a set of examples: val and test have different ones."""

    def __init__(self, job: JudgingJob) -> None:
        self._job = job
        self._by_size: dict[int, Bootstrap] = {}

    def of(self, values: Floats) -> Bootstrap:
        """Return the resamples for a set of this size."""
        size = len(values)
        if size not in self._by_size:
            job = self._job
            self._by_size[size] = Bootstrap(size, job.bootstrap, job.confidence, job.workload.seed)
        return self._by_size[size]


def _reference(values: Mapping[str, Values], name: str, best: Model) -> Values | None:
    """Return what a model is compared with; nothing for the best ingredient itself."""
    return None if name == best.name else values[best.name]


def _metrics(values: Values, reference: Values | None, draws: _Draws) -> dict[str, float]:
    """Return all metrics of one model, flat, each with the ends of its interval."""
    metrics: dict[str, float] = {}
    for name, own in values.items():
        bootstrap = draws.of(own)
        metrics |= _flat(name, bootstrap.estimate(own))
        compared = name.startswith(("test/", "shift/mean/"))
        if compared and reference is not None:
            metrics |= _flat(f"difference/{name}", bootstrap.difference(own, reference[name]))
    return metrics


def _flat(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
