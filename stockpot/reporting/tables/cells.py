"""The cells that the report's tables are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stockpot.metric_units import Unit
from stockpot.reporting.words.comparisons import Comparison
from stockpot.reporting.words.estimates import Estimate, p_words, percent, plain, read_estimate
from stockpot.reporting.words.verdict import Outcome


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: what stands in it.
        detail: what stands smaller behind it.
        sort: what its column is sorted by, where that is not the text.
        tone: better or worse, which the page colours.
        share: how strongly it is shaded, in percent; None for no shade.
        model: whose row it heads, by the model's own name; the page links it with the plots.
    """

    text: str
    detail: str = ""
    sort: float | None = None
    tone: str = ""
    share: int | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """One table; the first cell of a row is its header."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    emphasised: frozenset[str] = field(default_factory=frozenset)  # rows, by their first cell


def header(model: str) -> Cell:
    """Head a row with a model's name."""
    return Cell(model, model=model)


def score(estimate: Estimate | None, unit: Unit) -> Cell:
    """Write a score, with its interval."""
    if estimate is None:
        return Cell("-")
    written = typeset(interval(estimate, unit.score))
    return Cell(typeset(unit.score(estimate.value)), written, estimate.value)


def value(score: float | None, unit: Unit) -> Cell:
    """Write a score of which no interval is known."""
    return Cell("-") if score is None else Cell(typeset(unit.score(score)), sort=score)


def difference(compared: Comparison | None, unit: Unit) -> Cell:
    """Write a difference, starred where it is no accident, with interval and p."""
    if compared is None:
        return Cell("-")
    tones = {Outcome.WORSE: "worse", Outcome.NO_DIFFERENCE: "", Outcome.BETTER: "better"}
    star = "" if compared.outcome is Outcome.NO_DIFFERENCE else " *"
    return Cell(
        typeset(f"{unit.difference(compared.difference.value)}{star}"),
        typeset(f"{interval(compared.difference, unit.difference)}, {p_words(compared.p)}"),
        compared.difference.value,
        tones[compared.outcome],
    )


def interval(estimate: Estimate, write: Callable[[float], str]) -> str:
    """Write both ends of an interval; nothing where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{write(estimate.low)} to {write(estimate.high)}"


def typeset(number: str) -> str:
    """Put real minus signs."""
    return number.replace("-", "\N{MINUS SIGN}")


def fraction(value: float | None) -> Cell:
    """Write a fraction in percent."""
    return Cell("-") if value is None else Cell(percent(value), sort=value)


def number(value: float | None, write: Callable[[float], str] = plain) -> Cell:
    """Write a number that sorts as one."""
    return Cell("-") if value is None else Cell(typeset(write(value)), sort=float(value))


def metric(unit: Unit, metrics: Mapping[str, float], place: str) -> Cell:
    """Write the unit's metric of the set `place`, with its interval where one was computed."""
    return score(read_estimate(metrics, f"{place}/{unit.metric}"), unit)


def setting(value: Any) -> Cell:
    """Write a hyperparameter; numbers sort as numbers."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Cell(plain(value), sort=float(value) if is_number else None)
