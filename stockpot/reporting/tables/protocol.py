"""Which data was used for what: the part of a report that makes its numbers believable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stockpot.reporting.results import Manifest, Results
from stockpot.reporting.tables.cells import Cell, Grid
from stockpot.reporting.words.estimates import plain


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
        ("train", f"fine-tuning of the ingredients{_probes(results)}, nothing else"),
        ("val", f"every choice: {_choices(results)}"),
        ("val shifts", _val_shifts_use(results)),
        ("test", f"{num_test}; reported only, opened after all choices were made"),
        ("test shifts", _test_shifts_use(evaluation["test_shifts"])),
        ("best ingredient", _best_words(results)),
        ("intervals", _interval_words(results, experiment)),
        *_tests(evaluation),
        *([("seed", _seed_words(results, experiment))] if "seed" in experiment else []),
    ]


def access_grid(results: Results) -> Grid:
    """Build the table of what each split and shift was opened for."""
    tuned = bool(results.tune["tuned"])
    guided = any("val_shift" in study["recipe"]["objectives"] for study in results.tune["tuned"])
    choices = "selection, tuning, temperature" if tuned else "selection, temperature"
    probes = "seen" if results.diagnostics else "-"
    rows = [
        ("pretrain", "base", "-", "-", "-"),
        ("train", "ingredients", "-", probes, "-"),
        ("val", "-", choices, probes, "scored"),
        ("val shifts", "-", "tuning" if guided else "-", probes, "scored"),
        ("test", "-", "-", "-", "scored"),
        ("test shifts", "-", "-", "-", "scored"),
    ]
    if not results.evaluation["val_shifts"]:
        rows = [row for row in rows if row[0] != "val shifts"]
    if not results.evaluation["test_shifts"]:
        rows = [row for row in rows if row[0] != "test shifts"]
    columns = ["data", "training", "choices", "diagnostics", "evaluation"]
    return Grid(columns, [[Cell(text) for text in row] for row in rows])


def settings(experiment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Flatten params.yaml to pairs of a dotted name and a value, in the file's order."""
    return list(_flatten(experiment, ""))


def _choices(results: Results) -> str:
    tuning = " and the coefficients" if results.tune["tuned"] else ""
    return f"the best ingredient, what goes into a soup{tuning}"


def _probes(results: Results) -> str:
    return ", and what diagnostics look at" if results.diagnostics else ""


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


def _tests(evaluation: Manifest) -> list[tuple[str, str]]:
    """Say how differences were tested, where they were."""
    tested = evaluation["comparisons"]
    if not tested:
        return []
    level = f"{1 - evaluation['confidence']:.2g}"
    kinds = " and ".join(dict.fromkeys(row["test"] for row in tested))
    return [
        (
            "tests",
            f"{kinds}, paired; p after Holm's correction over all soups and places, and over all "
            f"ensembles and places; a difference is one with p below {level}",
        )
    ]


def _seed_words(results: Results, experiment: Mapping[str, Any]) -> str:
    """Say what the one seed fixes; other seeds that were drawn from are in the manifests."""
    drawn = results.evaluation.get("random_soups", {})
    random_soups = f"; random soups: {drawn['draws']} draws a size" if "draws" in drawn else ""
    return (
        f"{plain(experiment['seed'])}: splits, base, sweep, tuning, resamples all follow from it"
        f"{random_soups}"
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
