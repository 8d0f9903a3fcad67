"""What a comparison of runs comes to, in plain words; what is worse comes first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stockpot.metric_units import Unit
from stockpot.reporting.compare.runs import Run, Runs
from stockpot.reporting.words.comparisons import SHIFT, TEST
from stockpot.reporting.words.estimates import Estimate, confidence_words, p_words
from stockpot.reporting.words.verdict import ON_TEST, UNDER_SHIFT, Outcome, could_see_words

_PLACES = {SHIFT: UNDER_SHIFT, TEST: ON_TEST}


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """One run against the first, in one place; the outcome is None where there was no test."""

    run: str
    place: str
    outcome: Outcome | None
    sentence: str


def run_headline(runs: Runs) -> str:
    """Say in one sentence which runs are better or worse than the first."""
    tested = [verdict for verdict in run_verdicts(runs) if verdict.outcome is not None]
    groups = [[v for v in tested if v.place == place] for place in _PLACES.values()]
    counted = "; ".join(f"{group[0].place}, {_counted(group)}" for group in groups if group)
    first = f"{_what(runs.runs[0])} of {runs.runs[0].label}"
    return f"Against {first}: {counted}." if counted else f"Nothing was tested against {first}."


def run_verdicts(runs: Runs) -> list[RunVerdict]:
    """Say of each further run and place how its best soup compares with that of the first.

    Returns:
        What is worse first, what could not be tested last; else by place, then by run.
    """
    last = 2
    order = {Outcome.WORSE: 0, None: last}
    return sorted(_verdicts(runs), key=lambda verdict: order.get(verdict.outcome, 1))


def run_caveat(runs: Runs) -> str | None:
    """Say how p was corrected; None where one comparison stands alone."""
    if len(runs.tested) < 2:
        return None
    return (
        f"p is corrected for the {len(runs.tested)} comparisons of runs being made together "
        "(Holm), and decides; each interval is for one comparison. Best soups were chosen on val."
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
    first, outcome, unit = runs.runs[0], Outcome(tested["outcome"]), runs.unit
    if run.best["digest"] == first.best["digest"] != "":
        return f"{_named(run)} is the same model as {_named(first)}, {_PLACES[place]} and anywhere."
    if tested["won"] == tested["lost"] == 0:
        return (
            f"{_named(run)} and {_named(first)} do equally well on all {tested['n']} examples "
            f"{_PLACES[place]}"
        )
    what = f"{_named(run)} is {outcome} than {_named(first)} {_PLACES[place]}"
    could_see = ""
    if outcome is Outcome.NO_DIFFERENCE:
        what = f"no difference seen between {_named(run)} and {_named(first)} {_PLACES[place]}"
        could_see = could_see_words(tested["detectable"], unit)
    bounds = unit.bounds(tested["low"], tested["high"])
    return (
        f"{what}: {unit.difference_in_full(tested['difference'])} "
        f"({confidence_words(runs.confidence)} {bounds}), "
        f"+{tested['won']} and -{tested['lost']} of {tested['n']} examples, "
        f"{p_words(tested['p_holm'])}{could_see}"
    )


def _untested_sentence(runs: Runs, run: Run, place: str) -> str:
    """Put the scores side by side, and say why no more can be said."""
    first = runs.runs[0]
    own, other = run.score(place), first.score(place)
    against = f" against {_score(other, runs.unit)} of {_named(first)}" if other else ""
    why = runs.untested[run.label, place]
    scored = f"{_score(own, runs.unit)}{against}"
    return f"{_named(run)}, {_PLACES[place]}: {scored}; not tested, as {why}"


def _score(estimate: Estimate | None, unit: Unit) -> str:
    assert estimate is not None
    if estimate.low is None or estimate.high is None:
        return unit.score_in_full(estimate.value)
    bounds = f"{unit.score(estimate.low)} to {unit.score(estimate.high)}"
    return f"{unit.score_in_full(estimate.value)} ({bounds})"


def _named(run: Run) -> str:
    return f"{run.label} ({run.best['name']})"


def _what(run: Run) -> str:
    return "the best ingredient" if run.best["kind"] == "ingredient" else "the best soup"


def _counted(group: Sequence[RunVerdict]) -> str:
    """Name the runs by outcome: worse, better, not told apart."""
    words = {
        Outcome.WORSE: "worse",
        Outcome.BETTER: "better",
        Outcome.NO_DIFFERENCE: "no difference is seen for",
    }
    parts = []
    for outcome, said in words.items():
        names = ", ".join(verdict.run for verdict in group if verdict.outcome is outcome)
        if names and outcome is Outcome.NO_DIFFERENCE:
            parts.append(f"{said} {names}")
        elif names:
            parts.append(f"{names} {'is' if ', ' not in names else 'are'} {said}")
    return " and ".join(parts)
