"""Barriers between ingredients, and between base and best soup: can they be averaged?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median, median_high, median_low
from typing import Any, TypeAlias

import torch

from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.finding import Alert, Finding
from stockpot.diagnostics.line import LineScores, score_line
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.inner_products import task_vector_gram
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.states import State
from stockpot.metric_units import Unit, unit_in

Score: TypeAlias = Callable[[State], tuple[float, float]]
"""The mean metric and the mean loss of weights on val."""

_MAX_INGREDIENTS = 32  # 496 pairs
_POINTS = 11  # of a line
_SAFE = 0.02  # of a fraction, or of a usual score: a loss without a warning
_APART = 0.05  # likewise: a model that loses more with most others raises an alert
_WORST = 1e6  # nats
_HALF = Recipe.of(linear, (1.0, 1.0))


@dataclass(frozen=True, slots=True)
class Midpoints:
    """Scores of M models and of the mean of each pair.

    Attributes:
        metrics: (M, M), the models' own on the diagonal.
        losses: (M, M), the models' own on the diagonal.
    """

    metrics: list[list[float]]
    losses: list[list[float]]

    @property
    def metric_lines(self) -> list[list[LineScores]]:
        """The metric along the line between each pair, at ends and mean; (M, M)."""
        return _lines(self.metrics)

    @property
    def loss_lines(self) -> list[list[LineScores]]:
        """The loss along the line between each pair, at ends and mean; (M, M)."""
        return _lines(self.losses)


def barriers(context: DiagnosticContext) -> Finding:
    """Measure barriers between all pairs of ingredients, and along two whole lines.

    The lines are those from the base to the best soup and between the two ingredients that are
    furthest apart. BatchNorm's statistics are pooled, as in any merge.

    Source: as of `score_line`.
    """
    chosen, (first, second) = _furthest(context)

    def score(weights: State) -> tuple[float, float]:
        metric, loss = context.val_scores(weights)
        # JSON has neither inf nor nan.
        return metric, _WORST if math.isnan(loss) else min(loss, _WORST)

    measured = midpoints([one.weights for one in chosen], score)
    lines = []
    if context.soups:
        lines.append(_line("base_to_soup", context.base, context.best_soup, score))
    if len(chosen) > 1:
        lines.append(_line("furthest_two", first, second, score))
    names = [one.name for one in chosen]
    alerts = apart(names, measured, context.unit)
    data = {
        "metric": context.metric,
        "unit": context.unit.to_json(),
        "ingredients": names,
        "num_ingredients": len(context.ingredients),
        "metric_changes": _changes(measured.metric_lines),
        "loss_changes": _changes(measured.loss_lines),
        "midpoint_metrics": _rounded(measured.metrics),
        "lines": lines,
    }
    return Finding(_sentence(data, alerts), _metrics(data), data, tuple(alerts))


def midpoints(states: Sequence[State], score: Score) -> Midpoints:
    """Score M models and the mean of each pair."""
    own = [score(state) for state in states]
    size = len(states)
    metrics = [[own[i][0] if i == j else 0.0 for j in range(size)] for i in range(size)]
    losses = [[own[i][1] if i == j else 0.0 for j in range(size)] for i in range(size)]
    for i, j in combinations(range(size), 2):
        metric, loss = score(merge_states([states[i], states[j]], _HALF))
        metrics[i][j] = metrics[j][i] = metric
        losses[i][j] = losses[j][i] = loss
    return Midpoints(metrics, losses)


def both_lines(
    first: State, second: State, score: Score, num_points: int = _POINTS
) -> tuple[LineScores, LineScores]:
    """Score the nets on a line; return the metrics and the losses along it."""
    metrics = []

    def loss_of(state: State) -> float:
        metric, loss = score(state)
        metrics.append(metric)
        return loss

    losses = score_line(first, second, loss_of, num_points=num_points)
    return LineScores(losses.shares, tuple(metrics)), losses


def apart(names: Sequence[str], measured: Midpoints, unit: Unit) -> list[Alert]:
    """Return an alert for each model that loses much when averaged with most of the others.

    The loss is a barrier or, for a bad model, whose barriers are low, a mean that is worse than
    the models usually are. There are no alerts if half of the models would get one.
    """
    size = len(names)
    if size < 3:
        return []
    far = _APART * unit.size
    usual = median(measured.metrics[i][i] for i in range(size))
    alerts, lines = [], measured.metric_lines
    for place, name in enumerate(names):
        others = [other for other in range(size) if other != place]
        barrier = median_low(lines[place][other].accuracy_barrier for other in others)
        middle = median_high(measured.metrics[place][other] for other in others)
        own = measured.metrics[place][place]
        if barrier > far:
            size_of_it = f"{unit.score(barrier)} {unit.points_of_metric}"
            alerts.append(
                Alert(name, f"between it and most other ingredients is a barrier of {size_of_it}")
            )
        elif usual - middle > far:
            mean = f"its mean with another ingredient scores {unit.score_in_full(middle)} (median)"
            alone = f"it alone {unit.score_in_full(own)}, ingredients {unit.score_in_full(usual)}"
            alerts.append(Alert(name, f"{mean}, {alone}"))
    return alerts if 2 * len(alerts) < size else []


def _furthest(
    context: DiagnosticContext,
) -> tuple[list[LoadedModel], tuple[LoadedModel, LoadedModel]]:
    """Return the ingredients furthest from their mean, in order, and the pair furthest apart."""
    gram = task_vector_gram([one.weights for one in context.ingredients], context.base.weights)
    to_mean = gram.diagonal() - 2 * gram.mean(dim=1)  # squared, up to a constant
    chosen = sorted(to_mean.argsort(descending=True, stable=True)[:_MAX_INGREDIENTS].tolist())
    squared = gram.diagonal()[:, None] + gram.diagonal() - 2 * gram
    first, second = divmod(int(torch.argmax(squared)), len(gram))
    ingredients = context.ingredients
    return [ingredients[place] for place in chosen], (ingredients[first], ingredients[second])


def _line(kind: str, first: LoadedModel, second: LoadedModel, score: Score) -> dict[str, Any]:
    metrics, losses = both_lines(first.weights, second.weights, score)
    return {
        "kind": kind,
        "from": first.name,
        "to": second.name,
        "shares": list(metrics.shares),
        "metrics": [round(value, 6) for value in metrics.scores],
        "losses": [round(value, 6) for value in losses.scores],
        "metric_barrier": round(metrics.accuracy_barrier, 6),
        "loss_barrier": round(losses.loss_barrier, 6),
    }


def _lines(scores: Sequence[Sequence[float]]) -> list[list[LineScores]]:
    places = range(len(scores))
    return [
        [LineScores((0.0, 0.5, 1.0), (scores[i][i], scores[i][j], scores[j][j])) for j in places]
        for i in places
    ]


def _changes(lines: Sequence[Sequence[LineScores]]) -> list[list[float]]:
    """Return the score of each pair's mean minus the mean of the pair's scores; (M, M)."""
    return _rounded([[line.rises[1] for line in row] for row in lines])


def _rounded(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[round(value, 6) for value in row] for row in matrix]


def _pairs(data: Mapping[str, Any], name: str) -> list[float]:
    return [data[name][i][j] for i, j in combinations(range(len(data["ingredients"])), 2)]


def _metrics(data: Mapping[str, Any]) -> dict[str, float]:
    metrics = {}
    if len(data["ingredients"]) > 1:
        gains, rises = _pairs(data, "metric_changes"), _pairs(data, "loss_changes")
        metrics = {
            "metric_barrier": max(0.0, -min(gains)),
            "loss_barrier": max(0.0, *rises),
            "median_metric_change": median(gains),
            "median_loss_change": median(rises),
        }
    for line in data["lines"]:
        metrics[f"{line['kind']}_loss_barrier"] = line["loss_barrier"]
    return metrics


def _sentence(data: Mapping[str, Any], alerts: Sequence[Alert]) -> str:
    names, all_of = data["ingredients"], data["num_ingredients"]
    if len(names) == 1:
        return "There is only one ingredient, so there is nothing to average."
    which = f"all {all_of}" if len(names) == all_of else f"the {len(names)} outermost of {all_of}"
    changes, rises = _pairs(data, "metric_changes"), _pairs(data, "loss_changes")
    unit = unit_in(data)
    seen = (
        f"The mean of two of {which} ingredients scores {unit.signed(min(changes))} to "
        f"{unit.signed(max(changes))} {unit.points_of_metric} relative to the average score of the "
        f"two (loss {min(rises):+.3g} to {max(rises):+.3g})"
    )
    if alerts:
        named = ", ".join(alert.model for alert in alerts)
        return f"{seen}. {named} should not be averaged with the others."
    share = sum(change < -_SAFE * unit.size for change in changes) / len(changes)
    if share == 0:
        return f"{seen}. They lie in one basin, so averaging them is safe."
    if share > 0.5:
        return (
            f"{seen}. Most pairs do not share a basin, so averaging does harm. Train from one "
            "base, for fewer epochs or at a lower learning rate."
        )
    return (
        f"{seen}. {100 * share:.0f} % of the pairs lose more than {100 * _SAFE:.0f} "
        f"{'points' if unit.is_fraction else '% of a usual score'}, so select ingredients: a "
        "greedy soup leaves out those that do harm."
    )
