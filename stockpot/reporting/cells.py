"""The cells that the report's tables are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stockpot.reporting.comparisons import Comparison
from stockpot.reporting.estimates import Estimate, metric_text, p_words, percent, plain, points
from stockpot.reporting.verdict import Outcome


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


def score(estimate: Estimate | None) -> Cell:
    """Write a score in percent, with its interval."""
    if estimate is None:
        return Cell("-")
    return Cell(percent(estimate.value), interval(estimate, percent), estimate.value)


def difference(compared: Comparison | None) -> Cell:
    """Write a difference in points, starred where it is no accident, with interval and p."""
    if compared is None:
        return Cell("-")
    tones = {Outcome.WORSE: "worse", Outcome.NO_DIFFERENCE: "", Outcome.BETTER: "better"}
    star = "" if compared.outcome is Outcome.NO_DIFFERENCE else " *"
    return Cell(
        typeset(f"{points(compared.difference.value)}{star}"),
        typeset(f"{interval(compared.difference, points)}, {p_words(compared.p)}"),
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


def metric(name: str, metrics: Mapping[str, float], place: str) -> Cell:
    """Write the metric `name` of the set `place`, with its interval where one was computed."""
    full = f"{place}/{name}"
    if full not in metrics:
        return Cell("-")
    estimate = Estimate(metrics[full], metrics.get(f"{full}_low"), metrics.get(f"{full}_high"))

    def write(value: float) -> str:
        return typeset(metric_text(name, value))

    return Cell(write(estimate.value), interval(estimate, write), estimate.value)


def setting(value: Any) -> Cell:
    """Write a hyperparameter; numbers sort as numbers."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Cell(plain(value), sort=float(value) if is_number else None)
