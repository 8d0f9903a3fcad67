"""The evaluation protocol: which data was used for what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockpot.reporting.results import Manifest, Results
from stockpot.reporting.tables.cells import Cell, Grid
from stockpot.reporting.words.estimates import short_text
from stockpot.tracking.records import flatten


def protocol(results: Results, experiment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Describe the use of each split and shift, the intervals, tests and the seed.

    Args:
        results: the manifests of the run.
        experiment: params.yaml as a plain mapping; missing settings are left out.

    Returns:
        Pairs of a term and its explanation, in reading order.
    """
    evaluation = results.evaluation
    diagnostics = ", and diagnostics" if results.diagnostics else ""
    tuning = " and the coefficients" if results.tune["tuned"] else ""
    num_test = f"{evaluation['num_test']:,} examples"
    best = f"{evaluation['best_ingredient']}, the highest {evaluation['metric']} on val"
    return [
        ("train", f"fine-tuning of the ingredients{diagnostics}; nothing else"),
        ("val", f"all choices: the best ingredient, the ingredients of soups{tuning}"),
        ("val shifts", _val_shifts_use(results)),
        ("test", f"{num_test}; reporting only, read after all choices were made"),
        ("test shifts", _test_shifts_use(evaluation["test_shifts"])),
        ("best ingredient", f"{best} of {len(results.sweep['ingredients'])}"),
        ("intervals", _interval_words(results, experiment)),
        *_tests(evaluation),
        *([("seed", _seed_words(results, experiment))] if "seed" in experiment else []),
    ]


def access_grid(results: Results) -> Grid:
    """Build the table of which step read which split and shift."""
    evaluation = results.evaluation
    choices = f"selection, {'tuning, ' if results.tune['tuned'] else ''}temperature"
    guided = "tuning" if _guided_studies(results) else "-"
    diagnostics = "read" if results.diagnostics else "-"
    rows = [
        ("pretrain", "base", "-", "-", "-"),
        ("train", "ingredients", "-", diagnostics, "-"),
        ("val", "-", choices, diagnostics, "scored"),
        *([("val shifts", "-", guided, diagnostics, "scored")] if evaluation["val_shifts"] else []),
        ("test", "-", "-", "-", "scored"),
        *([("test shifts", "-", "-", "-", "scored")] if evaluation["test_shifts"] else []),
    ]
    columns = ["data", "training", "choices", "diagnostics", "evaluation"]
    return Grid(columns, [[Cell(text) for text in row] for row in rows])


def settings(experiment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Flatten params.yaml to pairs of a dotted name and a value, in the file's order."""
    flat = flatten(experiment, number_lists=True).items()
    return [(name, short_text(value)) for name, value in flat]


def _guided_studies(results: Results) -> list[str]:
    """Return the names of the studies that val shifts guided."""
    tuned = results.tune["tuned"]
    return [
        study["name"]
        for study in tuned
        if "val_shift" in (*study["recipe"]["objectives"], *study["recipe"].get("floor", ()))
    ]


def _val_shifts_use(results: Results) -> str:
    shifts = results.evaluation["val_shifts"]
    if not shifts:
        return "none"
    studies = ", ".join(_guided_studies(results))
    use = f"an objective of {studies}" if studies else "recorded, used for no choice"
    return f"{', '.join(shifts)}; {use}"


def _test_shifts_use(shifts: list[str]) -> str:
    if not shifts:
        return "none: this report says nothing about distribution shift"
    return (
        f"{', '.join(shifts)}; shifted copies of test, reporting only; all have the same weight in "
        "the mean"
    )


def _interval_words(results: Results, experiment: Mapping[str, Any]) -> str:
    num_resamples = experiment.get("evaluate", {}).get("bootstrap")
    resamples = f", {num_resamples:,} resamples" if num_resamples is not None else ""
    return (
        f"{100 * results.evaluation['confidence']:g} %, bootstrap over examples{resamples}; "
        "differences are paired: both models on the same examples. They cover the variation of "
        "test examples, not of training seeds."
    )


def _tests(evaluation: Manifest) -> list[tuple[str, str]]:
    """Describe the tests of differences, if there are any."""
    tested = evaluation["comparisons"]
    if not tested:
        return []
    level = f"{1 - evaluation['confidence']:.2g}"
    kinds = " and ".join(dict.fromkeys(row["test"] for row in tested))
    words = (
        f"{kinds}, paired; p after Holm's correction over all soups and places, and over all "
        f"ensembles and places; significant if p is below {level}"
    )
    return [("tests", words)]


def _seed_words(results: Results, experiment: Mapping[str, Any]) -> str:
    """Describe what the seed determines."""
    drawn = results.evaluation.get("random_soups", {})
    random_soups = f"; random soups: {drawn['draws']} draws per size" if "draws" in drawn else ""
    return (
        f"{short_text(experiment['seed'])}: determines splits, base, sweep, tuning and resamples"
        f"{random_soups}"
    )
