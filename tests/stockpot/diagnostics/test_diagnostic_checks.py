"""The contract checks of diagnostics: good ones pass, and each check finds a broken one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from stockpot.diagnostics.checks import CHECKS, check_diagnostic
from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.finding import Alert, Finding
from stockpot.diagnostics.registry import DIAGNOSTICS


def spread(context: DiagnosticContext) -> Finding:
    """Measure how far the ingredients are apart; sound."""
    heads = torch.stack([one.weights["head.weight"] for one in context.ingredients])
    distance = heads.std(dim=0).mean().item()
    return Finding(f"Heads are {distance:.2f} apart.", {"distance": distance}, {"of": [distance]})


def no_finding(context: DiagnosticContext) -> str:
    return context.metric


def no_sentence(context: DiagnosticContext) -> Finding:  # noqa: ARG001 (that is the fault)
    return Finding("")


def opens_test(context: DiagnosticContext) -> Finding:
    return Finding(f"{len(context.workload.dataset('test'))} examples.")  # type: ignore[arg-type]


def opens_a_shift_of_test(context: DiagnosticContext) -> Finding:
    return Finding(f"{context.workload.shifts()['noise'].dataset()} is open.")


def not_a_number(context: DiagnosticContext) -> Finding:  # noqa: ARG001 (that is the fault)
    return Finding("Nothing.", data={"of": float("nan")})


def a_tensor(context: DiagnosticContext) -> Finding:
    return Finding("Nothing.", data={"of": context.base.weights["head.weight"]})


def infinite(context: DiagnosticContext) -> Finding:  # noqa: ARG001 (that is the fault)
    return Finding("Nothing.", metrics={"of": "high"})  # type: ignore[dict-item]


def alerts_nobody(context: DiagnosticContext) -> Finding:  # noqa: ARG001 (that is the fault)
    return Finding("Nothing.", alerts=(Alert("nobody", "is not there"),))


def changes_weights(context: DiagnosticContext) -> Finding:
    for tensor in context.base.weights.values():
        tensor.mul_(2)
    return Finding("Nothing.")


def at_random(context: DiagnosticContext) -> Finding:  # noqa: ARG001 (that is the fault)
    return Finding(f"{torch.rand(()).item()} was drawn.")


BROKEN: dict[Callable[..., Any], tuple[str, str]] = {
    no_finding: ("result is a finding", r"must return a .*\.Finding, got str"),
    no_sentence: ("result is a finding", "must have a sentence with the result, got ''"),
    opens_test: ("result is a finding", r"must not open test, got dataset\('test'\)"),
    opens_a_shift_of_test: ("result is a finding", "must not open shifts of test, got 'noise'"),
    not_a_number: ("finding is json", "JSON without NaN"),
    a_tensor: ("finding is json", "Tensor is not JSON serializable; use None, .item"),
    infinite: ("finding is json", "metric 'of': must be a finite number, got 'high'"),
    alerts_nobody: ("alerts name models", r"got \['nobody'\]"),
    changes_weights: ("models are unchanged", r"got other ones of \['base'\]"),
    at_random: ("finding is deterministic", "draw from seeded_generator"),
}


def test_a_sound_diagnostic_passes_all_checks() -> None:
    results = list(check_diagnostic(spread))

    assert {result.outcome for result in results} == {"ok"}, results
    assert len(results) == len(CHECKS)


@pytest.mark.parametrize("function", BROKEN, ids=lambda function: function.__name__)
def test_a_broken_diagnostic_is_found_with_what_to_change(function: Callable[..., Any]) -> None:
    name, message = BROKEN[function]

    results = {result.name: result for result in check_diagnostic(function)}

    assert results[name].outcome == "failed", results
    assert re.search(message, results[name].message), results[name].message


def test_every_check_finds_a_broken_diagnostic() -> None:
    assert {name for name, _ in BROKEN.values()} == {c.__name__.replace("_", " ") for c in CHECKS}


@pytest.mark.parametrize("name", ["similarity", "gradient_groups", "diversity"])
def test_a_built_in_diagnostic_passes_all_checks(name: str) -> None:
    results = list(check_diagnostic(DIAGNOSTICS[name]))

    assert {result.outcome for result in results} == {"ok"}, results
