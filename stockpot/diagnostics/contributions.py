"""The contribution of each ingredient to a mean: Shapley values, and the score without it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.finding import Alert, Finding
from stockpot.diagnostics.subset_scores import PLACES, about_sample, places, survey
from stockpot.metric_units import Unit
from stockpot.statistics.holm import holm
from stockpot.statistics.paired import paired_test
from stockpot.statistics.values import Floats

_ALL = "all ingredients"
_LEVEL = 0.05  # of all tests of one group together


def contributions(context: DiagnosticContext) -> Finding:
    """Measure what each ingredient adds to the mean of all, and to that of the best greedy soup.

    The value of a subset is the score of its uniform mean; of the empty subset, the base's.
    """
    if len(context.ingredients) == 1:
        return Finding("There is only one ingredient, so there is no mean that it could add to.")
    groups = [_group(context, _ALL, context.ingredients)]
    greedy = [soup for soup in context.soups if soup.model.details.get("steps")]
    if greedy:
        best = greedy[context.rank(greedy)[0]]
        chosen = best.model.details["coefficients"]
        members = [member for member in context.ingredients if member.name in chosen]
        if 1 < len(members) < len(context.ingredients):
            groups.append(_group(context, best.name, members))
    unit = context.unit
    data = {
        **context.described,
        "places": list(places(context)),
        "groups": groups,
    }
    sentence = " ".join(_about(group, unit) for group in groups) + about_sample(groups[0])
    return Finding(sentence, _metrics(groups[0]), data, _alerts(groups, unit))


def _group(context: DiagnosticContext, name: str, members: Sequence[LoadedModel]) -> dict[str, Any]:
    """Return the contributions in one set of ingredients."""
    surveyed = survey(context, members)
    everyone = tuple(range(len(members)))
    errors = [
        np.hypot(standard_errors(values), of_orders)
        for values, of_orders in zip(surveyed.shapley, surveyed.order_errors.T, strict=True)
    ]
    tests = [paired_test(c, np.zeros_like(c), seed=context.seed) for c in surveyed.without[0]]
    adjusted = holm([test.p for test in tests])

    def by_place(values: Iterable[float]) -> dict[str, float]:
        return {place: float(v) for place, v in zip(places(context), values, strict=True)}

    rows = [
        {
            "ingredient": member.name,
            "shapley": by_place(values[row].mean() for values in surveyed.shapley),
            "error": by_place(error[row] for error in errors),
            "without": by_place(surveyed.scores[everyone[:row] + everyone[row + 1 :]]),
            "change": by_place(values[row].mean() for values in surveyed.without),
            "won": tests[row].won,
            "lost": tests[row].lost,
            "p": adjusted[row],
        }
        for row, member in enumerate(members)
    ]
    score, base = by_place(surveyed.scores[everyone]), by_place(surveyed.scores[()])
    return {"name": name, "score": score, "base": base, "rows": rows, **surveyed.sampled}


def standard_errors(values: Floats) -> Floats:
    """Return the standard error of each mean over examples, (M,), from values (M, N)."""
    num_examples = values.shape[1]
    if num_examples == 1:
        return np.zeros(len(values))
    return np.asarray(values.std(axis=1, ddof=1) / np.sqrt(num_examples))


def _metrics(group: Mapping[str, Any]) -> dict[str, float]:
    values = [row["shapley"]["val"] for row in group["rows"]]
    return {
        "shapley_most": max(values),
        "shapley_least": min(values),
        "best_without_one": max(row["change"]["val"] for row in group["rows"]),
        "num_harmful": float(sum(_is_harmful(row) for row in group["rows"])),
    }


def _is_harmful(row: Mapping[str, Any]) -> bool:
    return bool(row["change"]["val"] > 0 and row["p"] < _LEVEL)


def _alerts(groups: Sequence[Mapping[str, Any]], unit: Unit) -> tuple[Alert, ...]:
    """Return an alert for each ingredient without which a mean is significantly better."""
    return tuple(
        Alert(
            row["ingredient"],
            f"without it the mean of {_named(group)} is {unit.finely(row['change']['val'])} "
            f"{unit.points} better on val ({row['won']} examples better, {row['lost']} worse, "
            f"p = {row['p']:.2g})",
        )
        for group in groups
        for row in group["rows"]
        if _is_harmful(row)
    )


def _about(group: Mapping[str, Any], unit: Unit) -> str:
    """Name who adds most and least to a mean, and who should be left out."""
    rows = group["rows"]
    extremes = "; ".join(_most_and_least(group, place, unit) for place in group["score"])
    worth = f"The mean of {_named(group)} scores {extremes} (Shapley values)."
    harmful = [row["ingredient"] for row in rows if _is_harmful(row)]
    if harmful:
        return f"{worth} It is better on val without {' or '.join(harmful)}: leave it out."
    changes = sorted(row["change"]["val"] for row in rows)
    return (
        f"{worth} Without any one of them it changes by {unit.finely(changes[0])} to "
        f"{unit.finely(changes[-1])} on val: none makes it significantly worse."
    )


def _most_and_least(group: Mapping[str, Any], place: str, unit: Unit) -> str:
    ordered = sorted(group["rows"], key=lambda row: row["shapley"][place])
    least, most = ordered[0], ordered[-1]
    total = group["score"][place] - group["base"][place]
    return (
        f"{unit.finely(total)} {unit.points} on {PLACES[place]} against the base, to which "
        f"{most['ingredient']} adds most ({_value(most, place, unit)}) and {least['ingredient']} "
        f"least ({_value(least, place, unit)})"
    )


def _named(group: Mapping[str, Any]) -> str:
    num = len(group["rows"])
    is_all = group["name"] == _ALL
    return f"all {num} ingredients" if is_all else f"the {num} ingredients of {group['name']!r}"


def _value(row: Mapping[str, Any], place: str, unit: Unit) -> str:
    error = unit.finely(row["error"][place]).removeprefix("+")
    return f"{unit.finely(row['shapley'][place])} \N{PLUS-MINUS SIGN} {error}"
