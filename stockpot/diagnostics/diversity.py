"""Diversity of the ingredients' predictions, and what soups and ensembles gain from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.finding import Finding
from stockpot.metric_units import Unit, unit_in

_AS_GOOD = 0.75  # of the ensemble's gain: a soup with more gains as much
_FEW = 0.01  # disagreement: with less, averaging can gain little


def diversity(context: DiagnosticContext) -> Finding:
    """Compare the predictions of all ingredients on val and its shifts, example by example.

    Source: Kuncheva and Whitaker 2003, https://doi.org/10.1023/A:1022859003006 (disagreement,
    correlation of errors, Q statistic, interrater agreement kappa).
    """
    if len(context.ingredients) < 2:
        return Finding("There is only one ingredient, so there are no predictions to compare.")
    if context.workload.task != "classification":
        return Finding("Diversity is measured on predicted classes, and this workload has none.")
    sets = ["val", *(f"val_shift/{name}" for name in context.val_shifts)]
    compared = {name: _compare(context, name) for name in sets}
    data = {
        **context.described,
        "ingredients": [model.name for model in context.ingredients],
        "best_soup": context.best_soup.name if context.soups else None,
        "sets": compared,
    }
    return Finding(_sentence(data), _metrics(compared), data)


def disagreement(predictions: Tensor) -> Tensor:
    """Return the share of examples on which two models predict different classes, for each pair.

    Args:
        predictions: classes (M, N).

    Returns:
        (M, M), float64, in [0, 1].
    """
    return torch.stack([(predictions != own).double().mean(dim=1) for own in predictions])


def error_correlation(right: Tensor) -> float | None:
    """Return the mean correlation between two models' errors.

    1 if all err on the same examples, 0 if errors are independent.

    Args:
        right: whether each model is right on each example; (M, N), bool.

    Returns:
        The mean over pairs of models that are neither right nor wrong on all examples; None
        without such a pair.
    """
    errors = (~right).double()
    errors = errors[(errors.mean(dim=1) > 0) & (errors.mean(dim=1) < 1)]
    if len(errors) < 2:
        return None
    return float(_off_diagonal(torch.corrcoef(errors)).mean())


def q_statistic(right: Tensor) -> float | None:
    """Return the mean of Yule's Q over all pairs of models; None if it is undefined for all.

    1 if all are right on the same examples, 0 if independent, negative if complementary.

    Args:
        right: (M, N), bool.
    """
    hits, misses = right.double(), (~right).double()
    agreeing = (hits @ hits.T) * (misses @ misses.T)
    differing = (hits @ misses.T) * (misses @ hits.T)
    top, total = (_off_diagonal(x) for x in (agreeing - differing, agreeing + differing))
    defined = total > 0
    return float((top[defined] / total[defined]).mean()) if bool(defined.any()) else None


def kappa(right: Tensor) -> float | None:
    """Return the interrater agreement of M >= 2 models; None if all are right, or all wrong.

    1 if they are right on the same examples, 0 if they agree as often as by chance.

    Args:
        right: (M, N), bool.
    """
    count, mean = len(right), float(right.double().mean())
    if mean in (0.0, 1.0):
        return None
    votes = right.double().sum(dim=0)  # (N,)
    split = float((votes * (count - votes)).mean()) / (count * (count - 1))
    return 1 - split / (mean * (1 - mean))


def _compare(context: DiagnosticContext, set_name: str) -> dict[str, Any]:
    """Return diversity, and the gains of the ensemble and of soups, on one set."""
    shift = set_name.partition("_shift/")[2]
    targets = (context.val_shifts[shift] if shift else context.val).targets.cpu()
    outputs = torch.stack([context.outputs(model, set_name) for model in context.ingredients])
    predictions = outputs.argmax(dim=2)  # (M, N)
    right = predictions == targets
    apart = disagreement(predictions)

    def score(outputs: Tensor) -> float:
        return float(context.values(outputs, targets).mean())

    scores = [score(own) for own in outputs]
    mean = sum(scores) / len(scores)
    return {
        "num_examples": len(targets),
        "mean_score": mean,
        "best_score": max(scores),
        "oracle": float(right.any(dim=0).double().mean()),
        "disagreement": float(_off_diagonal(apart).mean()),
        "pairs": [[round(value, 4) for value in row] for row in apart.tolist()],
        "error_correlation": error_correlation(right),
        "q_statistic": q_statistic(right),
        "kappa": kappa(right),
        "ensemble_gain": score(outputs.double().mean(dim=0)) - mean,
        "soup_gains": {
            soup.name: score(context.outputs(soup, set_name)) - mean for soup in context.soups
        },
    }


def _off_diagonal(matrix: Tensor) -> Tensor:
    """Return the entries of pairs of different models."""
    return matrix[~torch.eye(len(matrix), dtype=torch.bool)]


def _metrics(compared: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    names = ("disagreement", "error_correlation", "q_statistic", "kappa", "oracle", "ensemble_gain")
    return {
        f"{name}/{place}": values[name]
        for place, values in compared.items()
        for name in names
        if values[name] is not None
    }


def _sentence(data: Mapping[str, Any]) -> str:
    on_val = data["sets"]["val"]
    if max(values["disagreement"] for values in data["sets"].values()) < _FEW:
        return (
            f"Two ingredients disagree on {_percent(on_val['disagreement'])} % of val: they are "
            "nearly the same model, and averaging them can gain little. Widen the sweep."
        )
    widest = max(data["sets"], key=lambda name: float(data["sets"][name]["disagreement"]))
    shown = dict.fromkeys(["val", widest])
    unit = unit_in(data)
    parts = [_on_set(name, data["sets"][name], data["best_soup"], unit) for name in shown]
    return " ".join([*parts, _conclusion(data["sets"][widest], data["best_soup"])])


def _on_set(name: str, values: Mapping[str, Any], soup: str | None, unit: Unit) -> str:
    gains = f"the ensemble has {unit.signed(values['ensemble_gain'])} {unit.points}"
    if soup is not None:
        gain = unit.signed(values["soup_gains"][soup])
        gains += f" and the best soup, {soup}, {gain} {unit.points}"
    return (
        f"On {name} two ingredients disagree on {_percent(values['disagreement'])} % of the "
        f"examples, and at least one is right on {_percent(values['oracle'])} %; relative to the "
        f"mean ingredient ({unit.score_in_full(values['mean_score'])}) {gains}."
    )


def _conclusion(values: Mapping[str, Any], soup: str | None) -> str:
    """Conclude from the set with the most disagreement."""
    gain = values["ensemble_gain"]
    if gain <= 0:
        return "They make the same errors, so averaging outputs gains nothing."
    if soup is None:
        return "They err on different examples, so averaging pays."
    if values["soup_gains"][soup] >= _AS_GOOD * gain:
        return "The soup gains as much from these differences as the ensemble, in one model."
    return (
        "The soup does not gain what the ensemble does: these ingredients' outputs average better "
        "than their weights; see barriers and regime for the reason."
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"
