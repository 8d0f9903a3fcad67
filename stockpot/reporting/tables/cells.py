"""Cells and grids: what the tables of the report consist of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stockpot.metric_units import Unit
from stockpot.reporting.words.comparisons import Comparison, Outcome
from stockpot.reporting.words.estimates import Estimate, p_text, read_estimate, short_text, typeset

T = TypeVar("T")

_TONES = {Outcome.WORSE: "worse", Outcome.NO_DIFFERENCE: "", Outcome.BETTER: "better"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: its content.
        detail: shown after the text, in a smaller font.
        sort: sort key of its column, if that is not the text.
        tone: better or worse; the page colours it.
        share: intensity of the shading, in percent; None for no shading.
        model: name of the model whose row it heads; the page links it with the plots.
    """

    text: str
    detail: str = ""
    sort: float | None = None
    tone: str = ""
    share: int | None = None
    model: str = ""


MISSING = Cell("-")


@dataclass(frozen=True, slots=True)
class Grid:
    """One table; the first cell of a row is its header."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    emphasised: frozenset[str] = field(default_factory=frozenset)  # rows, by their first cell


def grid(
    columns: Mapping[str, Callable[[T], Cell]],
    items: Iterable[T],
    emphasised: frozenset[str] = frozenset(),
) -> Grid:
    """Build a table with one row per item; each column computes its cell from the item."""
    rows = [[cell(item) for cell in columns.values()] for item in items]
    return Grid(list(columns), rows, emphasised)


def header(model: str) -> Cell:
    """Head a row with the name of a model."""
    return Cell(model, model=model)


def numeric(text: str, detail: str = "", sort: float | None = None, tone: str = "") -> Cell:
    """Return a cell of formatted numbers, with minus signs."""
    return Cell(typeset(text), typeset(detail), sort, tone)


def score(estimate: Estimate | None, unit: Unit) -> Cell:
    """Format a score, with its interval."""
    return MISSING if estimate is None else with_interval(estimate, unit.score)


def with_interval(estimate: Estimate, write: Callable[[float], str]) -> Cell:
    """Format a value, with its interval."""
    return numeric(write(estimate.value), estimate.bounds(write), estimate.value)


def difference(compared: Comparison | None, unit: Unit) -> Cell:
    """Format a difference with its interval and p; a star marks a significant one."""
    if compared is None:
        return MISSING
    star = "" if compared.outcome is Outcome.NO_DIFFERENCE else " *"
    p = p_text(compared.p).replace(" = ", "=")  # columns are narrow
    return numeric(
        f"{unit.difference(compared.difference.value)}{star}",
        f"{compared.difference.bounds(unit.difference)}, {p}",
        compared.difference.value,
        _TONES[compared.outcome],
    )


def number(value: float | None, write: Callable[[float], str] = short_text) -> Cell:
    """Format a number; its column is sorted by the number."""
    return MISSING if value is None else numeric(write(value), sort=float(value))


def metric(unit: Unit, metrics: Mapping[str, float], place: str) -> Cell:
    """Format the unit's metric on the set `place`, with its interval if there is one."""
    return score(read_estimate(metrics, f"{place}/{unit.metric}"), unit)


def setting(value: Any) -> Cell:
    """Format a hyperparameter; numbers are sorted as numbers."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Cell(short_text(value), sort=float(value) if is_number else None)
