"""The verdict on a comparison of runs in sentences; worse runs come first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stockpot.metric_units import Unit
from stockpot.reporting.compare.runs import Run, Runs
from stockpot.reporting.words.comparisons import PLACES, Outcome
from stockpot.reporting.words.estimates import Estimate
from stockpot.reporting.words.verdict import Verdict, comparison_sentence, correction_note


def run_headline(runs: Runs) -> str:
    """Return in one sentence which runs are better or worse than the first."""
    tested = [verdict for verdict in run_verdicts(runs) if verdict.outcome is not None]
    groups = [[v for v in tested if v.place == place] for place in PLACES.values()]
    counted = "; ".join(f"{group[0].place}, {_counted(group)}" for group in groups if group)
    first = f"{_best_model(runs.runs[0])} of {runs.runs[0].label}"
    return f"Against {first}: {counted}." if counted else f"No run was tested against {first}."


def run_verdicts(runs: Runs) -> list[Verdict]:
    """Compare the best soup of each further run with that of the first.

    Returns:
        Worse runs first, untested ones last; otherwise by place, then by run.
    """
    first_and_last = {Outcome.WORSE: 0, None: 2}
    return sorted(_verdicts(runs), key=lambda verdict: first_and_last.get(verdict.outcome, 1))


def run_caveat(runs: Runs) -> str | None:
    """Return the note on multiple comparisons; None if there is only one."""
    note = correction_note(len(runs.tested), "runs")
    return note and f"{note} Best soups were chosen on val."


def _verdicts(runs: Runs) -> Iterator[Verdict]:
    for place, words in PLACES.items():
        for run in runs.runs[1:]:
            found = runs.comparison(run.label, place)
            if found is not None:
                sentence = _tested_sentence(runs, run, place)
                yield Verdict(run.label, words, found.outcome, sentence)
            elif (score := run.score(place)) is not None:
                sentence = _untested_sentence(runs, run, place, score)
                yield Verdict(run.label, words, None, sentence)


def _tested_sentence(runs: Runs, run: Run, place: str) -> str:
    tested = next(row for row in runs.tested if (row["model"], row["place"]) == (run.label, place))
    first = runs.runs[0]
    if run.best["digest"] == first.best["digest"] != "":
        return f"{_named(run)} is the same model as {_named(first)}."
    if tested["won"] == tested["lost"] == 0:
        return (
            f"{_named(run)} and {_named(first)} score equally on all {tested['n']} examples "
            f"{PLACES[place]}"
        )
    names = (_named(run), _named(first))
    return comparison_sentence(tested, names, runs.confidence, runs.unit)


def _untested_sentence(runs: Runs, run: Run, place: str, score: Estimate) -> str:
    """Return both scores, and why they were not tested."""
    first = runs.runs[0]
    other, reason = first.score(place), runs.untested[run.label, place]
    against = f" against {_score(other, runs.unit)} for {_named(first)}" if other else ""
    scores = f"{_score(score, runs.unit)}{against}"
    return f"{_named(run)}, {PLACES[place]}: {scores}; not tested: {reason}"


def _score(estimate: Estimate, unit: Unit) -> str:
    return estimate.with_bounds(unit.score_in_full(estimate.value), unit.score)


def _named(run: Run) -> str:
    return f"{run.label} ({run.best['name']})"


def _best_model(run: Run) -> str:
    return "the best ingredient" if run.best["kind"] == "ingredient" else "the best soup"


def _counted(group: Sequence[Verdict]) -> str:
    """Name the runs by outcome: worse, better, no significant difference."""
    parts = []
    for outcome in (Outcome.WORSE, Outcome.BETTER, Outcome.NO_DIFFERENCE):
        runs = [verdict.model for verdict in group if verdict.outcome is outcome]
        if runs and outcome is Outcome.NO_DIFFERENCE:
            parts.append(f"no significant difference for {', '.join(runs)}")
        elif runs:
            parts.append(f"{', '.join(runs)} {'is' if len(runs) == 1 else 'are'} {outcome}")
    return " and ".join(parts)
