"""Ensembles: what the same ingredients reach if all of them are run and their outputs combined.

They are baselines of soups, at as many times the cost as there are models. Each takes the outputs
of K models on one set, and returns outputs of the same form, which every metric takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor

from stockpot.judging.job import Granularity
from stockpot.judging.stacking import class_weights, model_weights
from stockpot.workloads.protocol import Task

Ensemble = Callable[[Sequence[Tensor]], Tensor]
"""K outputs (N, ...) on a set -> outputs (N, ...), float64."""


def mean_outputs(outputs: Sequence[Tensor]) -> Tensor:
    """Average the outputs; of logits, this is the logit ensemble."""
    return _stack(outputs).mean(dim=0)


def median_outputs(outputs: Sequence[Tensor]) -> Tensor:
    """Take the median of each output; the mean of the middle two, for an even K."""
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
    """Return the ensemble whose weights fit val best.

    Args:
        outputs: logits (N, C) of K models on val.
        targets: classes (N,).
        granularity: whether a model has one weight, or one a class.

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
    # Weights that differ by class leave a sum of classes that is not 1.
    return weighted_logs(weights, _stack(outputs).log_softmax(dim=2)).log_softmax(dim=1)


def weighted_logs(weights: Tensor, logs: Tensor) -> Tensor:
    """Return log sum_k weights[k] exp(logs[k]), without underflow; logs (K, N, C)."""
    return torch.logsumexp(logs + weights.double().log()[:, None, :], dim=0)


ENSEMBLES: Mapping[Task, Mapping[str, Ensemble]] = MappingProxyType(
    {
        "classification": {
            "logit ensemble": mean_outputs,
            "probability ensemble": mean_probabilities,
            "median ensemble": median_probabilities,
        },
        "regression": {"mean ensemble": mean_outputs, "median ensemble": median_outputs},
        "language_model": {"probability ensemble": mean_token_probabilities},
    }
)
"""Ensembles by task and name that take nothing from val."""

STACK = "stacked ensemble"


def fit_ensembles(
    task: Task, outputs: Sequence[Tensor], targets: Tensor, granularity: Granularity
) -> dict[str, Ensemble]:
    """Return all ensembles of a task by name; the stacked one, of classifiers, is fitted on val.

    Args:
        task: what the outputs mean.
        outputs: of the ingredients on val.
        targets: of val.
        granularity: of the weights that are fitted.
    """
    fixed = dict(ENSEMBLES[task])
    if task != "classification":
        return fixed
    return fixed | {STACK: fit_stack(outputs, targets, granularity)}


def _stack(outputs: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(outputs)).double()  # (K, N, ...)
