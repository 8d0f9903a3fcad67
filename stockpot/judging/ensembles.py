"""Ensembles of the ingredients: baselines for soups, at K times the inference cost of one model.

Each function combines the outputs of K models on one set to outputs of the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from stockpot.judging.job import Granularity
from stockpot.judging.stacking import class_weights, model_weights
from stockpot.workloads.protocol import Task

Ensemble = Callable[[Sequence[Tensor]], Tensor]
"""K outputs (N, ...) on a set -> outputs (N, ...), float64."""


def mean_outputs(outputs: Sequence[Tensor]) -> Tensor:
    """Average the outputs; for logits, this is the logit ensemble."""
    return _stack(outputs).mean(dim=0)


def median_outputs(outputs: Sequence[Tensor]) -> Tensor:
    """Take the median of each output; for an even K, the mean of the middle two."""
    return _stack(outputs).quantile(0.5, dim=0)


def mean_probabilities(outputs: Sequence[Tensor]) -> Tensor:
    """Average the probabilities of logits (N, C); returns the logarithm of the mean."""
    return weighted_probabilities(torch.full((len(outputs), 1), 1 / len(outputs)), outputs)


def median_probabilities(outputs: Sequence[Tensor]) -> Tensor:
    """Take the median log-probability of each class, scaled so that the classes sum to 1."""
    return _stack(outputs).log_softmax(dim=2).quantile(0.5, dim=0).log_softmax(dim=1)


def mean_token_probabilities(outputs: Sequence[Tensor]) -> Tensor:
    """Average the probabilities of target tokens, given and returned as losses (N, T)."""
    return -weighted_logs(torch.full((len(outputs), 1), 1 / len(outputs)), -_stack(outputs))


def fit_stack(outputs: Sequence[Tensor], targets: Tensor, granularity: Granularity) -> Ensemble:
    """Return the ensemble with the weights of least NLL on val.

    Args:
        outputs: logits (N, C) of K models on val.
        targets: classes (N,).
        granularity: one weight per model, or one per model and class.

    Source: Fakoor et al. 2023 (https://arxiv.org/abs/2103.00083), coarse and medium weights, here
    of probabilities instead of quantiles.
    """
    fit = {"coarse": model_weights, "per_class": class_weights}[granularity]
    weights = fit(_stack(outputs).log_softmax(dim=2), targets)
    return partial(weighted_probabilities, weights)


def weighted_probabilities(weights: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    """Mix probabilities of logits (N, C); returns the logarithm of the mixture.

    Args:
        weights: (K, 1) or (K, C), at least 0, summing to 1 over models.
        outputs: of K models.
    """
    # With weights per class, the mixture does not sum to 1 over classes.
    return weighted_logs(weights, _stack(outputs).log_softmax(dim=2)).log_softmax(dim=1)


def weighted_logs(weights: Tensor, logs: Tensor) -> Tensor:
    """Return log sum_k weights[k] exp(logs[k]), without underflow; logs (K, N, C)."""
    return torch.logsumexp(logs + weights.double().log()[:, None, :], dim=0)


ENSEMBLES: Mapping[Task, Mapping[str, Ensemble]] = {
    "classification": {
        "logit ensemble": mean_outputs,
        "probability ensemble": mean_probabilities,
        "median ensemble": median_probabilities,
    },
    "regression": {"mean ensemble": mean_outputs, "median ensemble": median_outputs},
    "language_model": {"probability ensemble": mean_token_probabilities},
}
"""Ensembles without fitted weights, by task and name."""

STACK = "stacked ensemble"


def fit_ensembles(
    task: Task, outputs: Sequence[Tensor], targets: Tensor, granularity: Granularity
) -> dict[str, Ensemble]:
    """Return all ensembles of a task by name; classifiers get a stacked one, fitted on val.

    Args:
        task: of the workload.
        outputs: of the ingredients on val.
        targets: of val.
        granularity: of the stacked ensemble's weights.
    """
    if task != "classification":
        return dict(ENSEMBLES[task])
    return {**ENSEMBLES[task], STACK: fit_stack(outputs, targets, granularity)}


def _stack(outputs: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(outputs)).double()  # (K, N, ...)
