"""Formatting of numbers: values with intervals, percentages, p-values, settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stockpot.metric_units import Unit

_SHARE = Unit("share")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score, or a difference of two scores, with its interval if one was computed."""

    value: float
    low: float | None = None
    high: float | None = None

    def bounds(self, write: Callable[[float], str], between: str = " to ") -> str:
        """Format both ends of the interval: "94.5 to 98.2"; empty without one."""
        if self.low is None or self.high is None:
            return ""
        return f"{write(self.low)}{between}{write(self.high)}"

    def with_bounds(self, value: str, write: Callable[[float], str]) -> str:
        """Add the interval to the formatted value: "96.5 (94.5 to 98.2)"."""
        bounds = self.bounds(write)
        return f"{value} ({bounds})" if bounds else value


def read_estimate(metrics: Mapping[str, float], name: str) -> Estimate | None:
    """Read `name`, `name`_low and `name`_high; None if the metric was not recorded."""
    return estimate_of(metrics, name) if name in metrics else None


def estimate_of(metrics: Mapping[str, float], name: str) -> Estimate:
    """Read a metric that every model has.

    Raises:
        KeyError: it was not recorded.
    """
    return Estimate(metrics[name], metrics.get(f"{name}_low"), metrics.get(f"{name}_high"))


def percent(fraction: float) -> str:
    """Format a fraction in percent: 0.965 is 96.5."""
    return _SHARE.score(fraction)


def points(difference: float) -> str:
    """Format a difference of fractions in percentage points, signed: 0.041 is +4.1."""
    return _SHARE.difference(difference)


def typeset(number: str) -> str:
    """Replace the hyphens of a formatted number by minus signs."""
    return number.replace("-", "\N{MINUS SIGN}")


def short_count(number: float) -> str:
    """Format a large number with a suffix: 36690 is 36.7k."""
    for power, letter in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(number) >= 10**power:
            return f"{number / 10**power:.3g}{letter}"
    return f"{number:.3g}"


def interval_name(confidence: float) -> str:
    """Name an interval: 0.95 is "95 % interval"."""
    return f"{100 * confidence:g} % interval"


def p_text(p: float) -> str:
    """Format a p-value with two significant digits, or as p < 0.001."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def short_text(value: Any) -> str:
    """Format a setting: numbers rounded, lists in one line, None as a dash."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case list() | tuple():
            return ", ".join(short_text(part) for part in value) or "-"
        case dict():
            return ", ".join(f"{name}={short_text(part)}" for name, part in value.items()) or "-"
        case _:
            return str(value)
