"""What a reader must know before any score: ingredients that do not belong, data that differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stockpot.reporting.results import Results
from stockpot.reporting.words.estimates import percent


@dataclass(frozen=True, slots=True)
class Alert:
    """One model, and all that speaks against it.

    Attributes:
        model: whom it concerns.
        excluded: whether it was kept out of every soup.
        reasons: one clause each, with what found it.
    """

    model: str
    excluded: bool
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Say it in one line."""
        fate = " (kept out of all soups)" if self.excluded else ""
        return f"{self.model}{fate}: {'; '.join(self.reasons)}"


def alerts(results: Results) -> list[Alert]:
    """Gather what the check before merging and the diagnostics hold against models.

    Returns:
        One alert a model: those that were kept out first, then in the order of being found.
    """
    excluded = {entry["name"] for entry in results.sweep.get("precheck", {}).get("excluded", [])}
    reasons: dict[str, list[str]] = {}
    for model, reason in _found(results):
        reasons.setdefault(model, []).append(reason)
    return [Alert(model, model in excluded, tuple(said)) for model, said in reasons.items()]


def doubts(results: Results) -> list[str]:
    """Say what speaks against the data, or the metrics, rather than against a model."""
    checks = results.sweep.get("precheck", {}).get("checks", [])
    of_data = [
        f"It is not certain that {check['name']}: {check['detail']}"
        for check in checks
        if check["ingredient"] is None and not check["passed"]
    ]
    notes = results.evaluation.get("notes", [])
    return [*of_data, *(f"{note[0].upper()}{note[1:]}" for note in notes)]


def checked(results: Results) -> list[str]:
    """Say what was found of the data, and what is certain of the mean of all that passed."""
    precheck = results.sweep.get("precheck", {})
    of_data = [check for check in precheck.get("checks", []) if check["ingredient"] is None]
    said = [f"{check['name']}: {check['detail']}." for check in of_data if check["passed"]]
    bound = precheck.get("certificate")
    if bound is None:
        return said
    return [
        *said,
        "The mean of all ingredients that passed errs on at most "
        f"{percent(bound['error_below'])} % of data like {bound['split']}, with a confidence of "
        f"{100 * (1 - bound['delta']):g} % ({bound['num_wrong']} errors in "
        f"{bound['num_examples']} examples).",
    ]


def looked_for(results: Results) -> str:
    """Say what would have raised an alert: the check before merging, and which diagnostics."""
    precheck = ["the check before merging"] if "precheck" in results.sweep else []
    names = [name.replace("_", " ") for name in results.diagnostics]
    diagnostics = [f"the diagnostics ({', '.join(names)})"] if names else []
    return " and ".join([*precheck, *diagnostics])


def _found(results: Results) -> Iterator[tuple[str, str]]:
    """Yield a model and what speaks against it."""
    for entry in results.sweep.get("precheck", {}).get("failed", []):
        yield entry["name"], f"{entry['reason']} (check before merging)"
    for name, finding in results.diagnostics.items():
        for alert in finding["alerts"]:
            yield alert["model"], f"{alert['reason']} ({name.replace('_', ' ')})"
