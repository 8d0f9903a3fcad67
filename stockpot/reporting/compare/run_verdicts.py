"""The verdict on a comparison of runs in sentences; worse runs come first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stockpot.metric_units import Unit
from stockpot.reporting.compare.runs import Run, Runs
from stockpot.reporting.words.comparisons import SHIFT, TEST
from stockpot.reporting.words.estimates import Estimate
from stockpot.reporting.words.verdict import (
    ON_TEST,
    UNDER_SHIFT,
    Outcome,
    comparison_sentence,
)

_PLACES = {SHIFT: UNDER_SHIFT, TEST: ON_TEST}


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """One run against the first, on test or under shift; the outcome is None without a test."""

    run: str
    place: str
    outcome: Outcome | None
    sentence: str


def run_headline(runs: Runs) -> str:
    """Return in one sentence which runs are better or worse than the first."""
    tested = [verdict for verdict in run_verdicts(runs) if verdict.outcome is not None]
    groups = [[v for v in tested if v.place == place] for place in _PLACES.values()]
    counted = "; ".join(f"{group[0].place}, {_counted(group)}" for group in groups if group)
    first = f"{_best_model(runs.runs[0])} of {runs.runs[0].label}"
    return f"Against {first}: {counted}." if counted else f"No run was tested against {first}."


def run_verdicts(runs: Runs) -> list[RunVerdict]:
    """Compare the best soup of each further run with that of the first.

    Returns:
        Worse runs first, untested ones last; otherwise by place, then by run.
    """
    last = 2
    order = {Outcome.WORSE: 0, None: last}
    return sorted(_verdicts(runs), key=lambda verdict: order.get(verdict.outcome, 1))


def run_caveat(runs: Runs) -> str | None:
    """Return the note on multiple comparisons; None if there is only one."""
    if len(runs.tested) < 2:
        return None
    return (
        f"p-values are corrected for the {len(runs.tested)} comparisons of runs (Holm) and decide "
        "the outcome; intervals are not corrected. Best soups were chosen on val."
    )


def _verdicts(runs: Runs) -> Iterator[RunVerdict]:
    for place, words in _PLACES.items():
        for run in runs.runs[1:]:
            found = runs.comparison(run.label, place)
            if found is not None:
                sentence = _tested_sentence(runs, run, place)
                yield RunVerdict(run.label, words, found.outcome, sentence)
            elif run.score(place) is not None:
                yield RunVerdict(run.label, words, None, _untested_sentence(runs, run, place))


def _tested_sentence(runs: Runs, run: Run, place: str) -> str:
    tested = next(row for row in runs.tested if (row["model"], row["place"]) == (run.label, place))
    first = runs.runs[0]
    if run.best["digest"] == first.best["digest"] != "":
        return f"{_named(run)} is the same model as {_named(first)}."
    if tested["won"] == tested["lost"] == 0:
        return (
            f"{_named(run)} and {_named(first)} score equally on all {tested['n']} examples "
            f"{_PLACES[place]}"
        )
    names = (_named(run), _named(first))
    return comparison_sentence(tested, names, runs.confidence, runs.unit)


def _untested_sentence(runs: Runs, run: Run, place: str) -> str:
    """Return both scores, and why they were not tested."""
    first = runs.runs[0]
    own, other = run.score(place), first.score(place)
    against = f" against {_score(other, runs.unit)} for {_named(first)}" if other else ""
    reason = runs.untested[run.label, place]
    scores = f"{_score(own, runs.unit)}{against}"
    return f"{_named(run)}, {_PLACES[place]}: {scores}; not tested: {reason}"


def _score(estimate: Estimate | None, unit: Unit) -> str:
    assert estimate is not None
    if estimate.low is None or estimate.high is None:
        return unit.score_in_full(estimate.value)
    bounds = f"{unit.score(estimate.low)} to {unit.score(estimate.high)}"
    return f"{unit.score_in_full(estimate.value)} ({bounds})"


def _named(run: Run) -> str:
    return f"{run.label} ({run.best['name']})"


def _best_model(run: Run) -> str:
    return "the best ingredient" if run.best["kind"] == "ingredient" else "the best soup"


def _counted(group: Sequence[RunVerdict]) -> str:
    """Name the runs by outcome: worse, better, no significant difference."""
    words = {
        Outcome.WORSE: "worse",
        Outcome.BETTER: "better",
        Outcome.NO_DIFFERENCE: "no significant difference for",
    }
    parts = []
    for outcome, text in words.items():
        names = ", ".join(verdict.run for verdict in group if verdict.outcome is outcome)
        if names and outcome is Outcome.NO_DIFFERENCE:
            parts.append(f"{text} {names}")
        elif names:
            parts.append(f"{names} {'is' if ', ' not in names else 'are'} {text}")
    return " and ".join(parts)
