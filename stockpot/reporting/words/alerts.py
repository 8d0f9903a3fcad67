"""Alerts: ingredients that do not belong in a soup, and failed checks of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stockpot.reporting.results import Results
from stockpot.reporting.words.densities import density_sentences
from stockpot.reporting.words.estimates import percent


@dataclass(frozen=True, slots=True)
class Alert:
    """One model with all problems that were found.

    Attributes:
        model: its name.
        excluded: whether it was excluded from all soups.
        reasons: one clause per problem, with the check that found it.
    """

    model: str
    excluded: bool
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The alert in one line."""
        excluded = " (excluded from all soups)" if self.excluded else ""
        return f"{self.model}{excluded}: {'; '.join(self.reasons)}"


def alerts(results: Results) -> list[Alert]:
    """Collect the problems that the check before merging and the diagnostics found.

    Returns:
        One alert per model: excluded ones first, then in the order of the findings.
    """
    excluded = {entry["name"] for entry in results.precheck.get("excluded", [])}
    reasons: dict[str, list[str]] = {}
    for model, reason in _found(results):
        reasons.setdefault(model, []).append(reason)
    return [Alert(model, model in excluded, tuple(found)) for model, found in reasons.items()]


def data_warnings(results: Results) -> list[str]:
    """Return the failed checks of the data, the notes on metrics, and what became of masks.

    If imported ingredients should be aligned, that is said too.
    """
    of_data = [
        f"The check that {check['name']} failed: {check['detail']}"
        for check in _data_checks(results, passed=False)
    ]
    notes = results.evaluation.get("notes", [])
    of_metrics = (f"{note[0].upper()}{note[1:]}" for note in notes)
    advice = results.precheck.get("proposal", {}).get("advice", "")
    of_imports = [f"{advice[0].upper()}{advice[1:]}."] if advice else []
    return [*of_data, *of_imports, *of_metrics, *_of_rounds(results), *density_sentences(results)]


def _of_rounds(results: Results) -> list[str]:
    """Return a sentence per ingredient of whose rounds clients were left out."""
    ingredients = results.sweep.get("ingredients", [])
    lost = {model["name"]: model.get("rounds", {}).get("lost", {}) for model in ingredients}
    return [
        f"{name}: {sum(map(len, by_round.values()))} updates of clients are missing, whose worker "
        f"died or took too long: in {', '.join(f'round {number}' for number in by_round)}."
        for name, by_round in lost.items()
        if by_round
    ]


def precheck_notes(results: Results) -> list[str]:
    """Return the results of the data checks, and the error bound of the uniform soup."""
    passed = _data_checks(results, passed=True)
    sentences = [f"{check['name']}: {check['detail']}." for check in passed]
    bound = results.precheck.get("certificate")
    if bound is not None:
        sentences.append(
            "The average of all ingredients that passed has an error of at most "
            f"{percent(bound['error_below'])} % on data like {bound['split']}, with "
            f"{100 * (1 - bound['delta']):g} % confidence ({bound['num_wrong']} errors in "
            f"{bound['num_examples']} examples)."
        )
    return sentences


def alert_sources(results: Results) -> str:
    """Return what can raise an alert: the check before merging, and which diagnostics."""
    precheck = ["the check before merging"] if "precheck" in results.sweep else []
    names = [name.replace("_", " ") for name in results.diagnostics]
    diagnostics = [f"the diagnostics ({', '.join(names)})"] if names else []
    return " or ".join([*precheck, *diagnostics])


def _data_checks(results: Results, *, passed: bool) -> list[Mapping[str, Any]]:
    """Return the checks of the data, which belong to no ingredient, by their outcome."""
    checks = results.precheck.get("checks", [])
    return [c for c in checks if c["ingredient"] is None and bool(c["passed"]) is passed]


def _found(results: Results) -> Iterator[tuple[str, str]]:
    """Yield each model with a problem that was found."""
    for entry in results.precheck.get("failed", []):
        yield entry["name"], f"{entry['reason']} (check before merging)"
    for name, finding in results.diagnostics.items():
        for alert in finding["alerts"]:
            yield alert["model"], f"{alert['reason']} ({name.replace('_', ' ')})"
