"""Which data was used for what: the part of a report that makes its numbers believable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stockpot.reporting.estimates import plain
from stockpot.reporting.results import Results


def protocol(results: Results, experiment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say of each split, shift and interval what it was used for.

    Args:
        results: the manifests of the run.
        experiment: params.yaml as a plain mapping; what it does not give is left out.

    Returns:
        Pairs of a term and its explanation, in reading order.
    """
    evaluation = results.evaluation
    num_test = f"{evaluation['num_test']:,} examples"
    return [
        ("train", "fine-tuning of the ingredients, nothing else"),
        ("val", f"every choice: {_choices(results)}"),
        ("val shifts", _val_shifts_use(results)),
        ("test", f"{num_test}; reported only, opened after all choices were made"),
        ("test shifts", _test_shifts_use(evaluation["test_shifts"])),
        ("best ingredient", _best_words(results)),
        ("intervals", _interval_words(results, experiment)),
        *([("seed", plain(experiment["seed"]))] if "seed" in experiment else []),
    ]


def settings(experiment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Flatten params.yaml to pairs of a dotted name and a value, in the file's order."""
    return list(_flatten(experiment, ""))


def _choices(results: Results) -> str:
    tuning = " and the coefficients" if results.tune["tuned"] else ""
    return f"the best ingredient, what goes into a soup{tuning}"


def _val_shifts_use(results: Results) -> str:
    shifts = results.evaluation["val_shifts"]
    if not shifts:
        return "none"
    studies = [
        study["name"]
        for study in results.tune["tuned"]
        if "val_shift" in study["recipe"]["objectives"]
    ]
    use = f"an objective of {', '.join(studies)}" if studies else "recorded, guided no choice"
    return f"{', '.join(shifts)}; {use}"


def _test_shifts_use(shifts: list[str]) -> str:
    if not shifts:
        return "none: this report says nothing about distribution shift"
    return (
        f"{', '.join(shifts)}; shifted copies of test, reported only; the mean weighs them equally"
    )


def _best_words(results: Results) -> str:
    num_ingredients = len(results.sweep["ingredients"])
    metric, best = results.evaluation["metric"], results.evaluation["best_ingredient"]
    return f"{best}, the highest {metric} on val of {num_ingredients}"


def _interval_words(results: Results, experiment: Mapping[str, Any]) -> str:
    num_resamples = experiment.get("evaluate", {}).get("bootstrap")
    resamples = f", {num_resamples:,} resamples" if num_resamples is not None else ""
    percentage = f"{100 * results.evaluation['confidence']:g} %"
    return (
        f"{percentage}, bootstrap over examples{resamples}; differences are paired: both models on "
        "the same examples. They cover the choice of test examples, not of the training seed."
    )


def _flatten(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield the leaves below `value`; lists of plain values are leaves."""
    match value:
        case Mapping() if value:
            for key, inner in value.items():
                yield from _flatten(inner, f"{name}.{key}" if name else str(key))
        case [Mapping(), *_]:
            for number, inner in enumerate(value):
                yield from _flatten(inner, f"{name}.{number}")
        case _:
            yield name, plain(value)
