"""Barriers between ingredients, and between base and best soup: can they be averaged?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations, combinations_with_replacement
from statistics import median, median_high, median_low
from typing import Any, TypeAlias

import numpy as np
import torch

from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.finding import Alert, Finding
from stockpot.diagnostics.line import LineScores, score_line
from stockpot.diagnostics.states import Mean
from stockpot.merging.methods.inner_products import task_vector_gram
from stockpot.merging.states import State
from stockpot.metric_units import Unit, unit_in
from stockpot.statistics.values import Floats
from stockpot.workers.inside import in_steps

Score: TypeAlias = Callable[[State], tuple[float, float]]
"""The mean metric and the mean loss of weights on val."""

_MAX_INGREDIENTS = 32  # 496 pairs
_POINTS = 11  # of a line
_SAFE = 0.02  # of a fraction, or of a usual score: a loss without a warning
_APART = 0.05  # likewise: a model that loses more with most others raises an alert


def barriers(context: DiagnosticContext) -> Finding:
    """Measure barriers between all pairs of ingredients, and along two whole lines.

    The lines are those from the base to the best soup and between the two ingredients that are
    furthest apart. BatchNorm's statistics are recalibrated, or averages repaired, as in any soup.
    Large models are evaluated on a random sample of val; the finding has its standard error.

    Source: as of `score_line`.
    """
    chosen, (first, second) = _furthest(context)
    num_pairs = len(chosen) * (len(chosen) + 1) // 2
    val, *_ = context.val_sets_for(num_pairs + 2 * (_POINTS - 2))
    score = partial(context.val_scores, set_name=val)
    metrics, losses = midpoints([one.weights for one in chosen], score, context.mean_of)
    lines = []
    if context.soups:
        lines.append(_line("base_to_soup", context.base, context.best_soup, context, score))
    if len(chosen) > 1:
        lines.append(_line("furthest_two", first, second, context, score))
    names = [one.name for one in chosen]
    alerts = apart(names, metrics, context.unit)
    data = {
        **context.described,
        "ingredients": names,
        "num_ingredients": len(context.ingredients),
        "metric_changes": _rounded(changes(metrics)),
        "loss_changes": _rounded(changes(losses)),
        "midpoint_metrics": _rounded(metrics),
        "lines": lines,
    }
    if val != "val":
        error = _standard_error([one.weights for one in chosen], context, val)
        data |= {"sample": context.num_examples(val), "standard_error": round(error, 6)}
    return Finding(_sentence(data, alerts), _metrics(data), data, tuple(alerts))


def midpoints(states: Sequence[State], score: Score, mean: Mean) -> tuple[Floats, Floats]:
    """Score M models and the mean of each pair.

    Returns:
        Metrics and losses, (M, M) each, the models' own on the diagonal.
    """
    size = len(states)
    scores: Floats = np.empty((2, size, size))
    for i, j in in_steps([*combinations_with_replacement(range(size), 2)]):
        state = states[i] if i == j else mean([states[i], states[j]])
        scores[:, i, j] = scores[:, j, i] = score(state)
    return scores[0], scores[1]


def _standard_error(states: Sequence[State], context: DiagnosticContext, val: str) -> float:
    """Return the largest standard error, over pairs, of the change of the metric by averaging."""

    def values(state: State) -> Floats:  # no pass is repeated
        scored: Floats = context.scorer.values(context.on_device(state), val).numpy()
        return scored

    own = [values(state) for state in states]
    changed = (
        values(context.mean_of([states[i], states[j]])) - (own[i] + own[j]) / 2
        for i, j in combinations(range(len(states)), 2)
    )
    return max((float(one.std(ddof=1) / len(one) ** 0.5) for one in changed), default=0.0)


def changes(scores: Floats) -> Floats:
    """Return the score of each pair's mean minus the mean of the pair's scores; (M, M) both."""
    own = scores.diagonal()
    return np.asarray(scores - (own[:, None] + 0.5 * (own - own[:, None])))


def apart(names: Sequence[str], metrics: Floats, unit: Unit) -> list[Alert]:
    """Return an alert for each model that loses much when averaged with most of the others.

    The loss is a barrier or, for a bad model, whose barriers are low, a mean that is worse than
    the models usually are. There are no alerts if half of the models would get one.

    Args:
        names: of M models.
        metrics: of the models and of the mean of each pair, as of `midpoints`; (M, M).
        unit: of the metric.
    """
    if len(names) < 3:
        return []
    far, usual = _APART * unit.size, median(metrics.diagonal())
    alerts, falls = [], -changes(metrics)
    for place, name in enumerate(names):
        barrier = median_low(np.delete(falls[place], place))
        middle = median_high(np.delete(metrics[place], place))
        if barrier > far:
            size = f"{unit.score(barrier)} {unit.points_of_metric}"
            reason = f"between it and most other ingredients is a barrier of {size}"
            alerts.append(Alert(name, reason))
        elif usual - middle > far:
            mean = f"its mean with another ingredient scores {unit.score_in_full(middle)} (median)"
            own, others = (unit.score_in_full(one) for one in (metrics[place, place], usual))
            alerts.append(Alert(name, f"{mean}, it alone {own}, ingredients {others}"))
    return alerts if 2 * len(alerts) < len(names) else []


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


def _line(
    kind: str, first: LoadedModel, second: LoadedModel, context: DiagnosticContext, score: Score
) -> dict[str, Any]:
    on_metric: list[float] = []

    def loss_of(state: State) -> float:
        metric, loss = score(state)
        on_metric.append(metric)
        return loss

    def finished(state: State, share: float) -> State:
        if first is context.base:
            return context.finished.recalibrated(state, 2)
        return context.finished(state, (first.weights, second.weights), (1 - share, share))

    losses = score_line(
        first.weights, second.weights, loss_of, num_points=_POINTS, correct=finished
    )
    metrics = LineScores(losses.shares, tuple(on_metric))
    return {
        "kind": kind,
        "from": first.name,
        "to": second.name,
        "shares": list(losses.shares),
        "metrics": [round(value, 6) for value in metrics.scores],
        "losses": [round(value, 6) for value in losses.scores],
        "metric_barrier": round(metrics.accuracy_barrier, 6),
        "loss_barrier": round(losses.loss_barrier, 6),
    }


def _rounded(matrix: Floats) -> list[list[float]]:
    return [[round(value, 6) for value in row] for row in matrix.tolist()]


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


def _on_sample(data: Mapping[str, Any], unit: Unit) -> str:
    if "sample" not in data:
        return ""
    error = unit.finely(data["standard_error"]).removeprefix("+")
    return f"; on {data['sample']} random examples of val, standard error up to {error}"


def _sentence(data: Mapping[str, Any], alerts: Sequence[Alert]) -> str:
    names, all_of = data["ingredients"], data["num_ingredients"]
    if len(names) == 1:
        return "There is only one ingredient, so there is nothing to average."
    which = f"all {all_of}" if len(names) == all_of else f"the {len(names)} outermost of {all_of}"
    gains, rises = _pairs(data, "metric_changes"), _pairs(data, "loss_changes")
    unit = unit_in(data)
    seen = (
        f"The mean of two of {which} ingredients scores {unit.signed(min(gains))} to "
        f"{unit.signed(max(gains))} {unit.points_of_metric} relative to the average score of the "
        f"two (loss {min(rises):+.3g} to {max(rises):+.3g}{_on_sample(data, unit)})"
    )
    if alerts:
        named = ", ".join(alert.model for alert in alerts)
        return f"{seen}. {named} should not be averaged with the others."
    share = sum(gain < -_SAFE * unit.size for gain in gains) / len(gains)
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
