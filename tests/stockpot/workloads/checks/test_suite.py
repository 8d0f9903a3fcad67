"""The checks of a workload: a sound one passes, and each fault is found by the check for it."""

from __future__ import annotations

import re

import pytest

from stockpot.errors import InputError
from stockpot.plugins import Skipped
from stockpot.workloads.checks import CHECKS, check_workload
from stockpot.workloads.checks.checked_workload import CheckedWorkload
from stockpot.workloads.spec import WorkloadSpec

FAULTS = {
    "NoTuples": ("splits have examples", r"'pretrain'\)\[0\]: must be a tuple"),
    "Empty": ("splits have examples", r"'val'\): must have 2 examples at least, got 0"),
    "Leak": ("splits are disjoint", r"got 8 of 24 .* such as val\[16\], which is train\[0\]"),
    "NotANumber": ("values are finite", r"'val'\): numbers must be finite"),
    "AnotherEachTime": ("examples repeat", "must give the same examples each time"),
    "GlobalRandomState": ("models are reproducible", "given generator alone, .* such as 'weight'"),
    "OneModel": ("models are reproducible", "must build a new model each time"),
    "OfTheBatch": ("outputs are per example", "must not depend on the rest of its batch"),
    "ChangesTheBatch": ("outputs are per example", "must leave the batch unchanged"),
    "NoClass": ("targets fit the task", r"must be in \[0, 2\), .* got 1 to 2"),
    "FloatClass": ("targets fit the task", "must be one int64, got torch.float32"),
    "MissingClass": ("targets fit the task", r"every class of val, has none of \[1\]"),
    "MeanLoss": ("loss is per example", r"\(8,\), got \(\); use reduction='none'"),
    "LossWithoutGradient": ("step lowers the loss", "must have a gradient, got none"),
    "RisingLoss": ("step lowers the loss", "check the sign of the loss"),
    "MeanMetric": ("metrics are per example", r"\(8,\), got \(\); do not take the mean"),
    "MetricThatRaises": ("metrics are per example", r"broken_workloads.py, line \d+: KeyError"),
    "BooleanMetric": ("metrics are per example", "got torch.bool; convert booleans to 0 and 1"),
    "ShiftOfTheWrongSplit": ("shifts are those chosen", "{'far': 'val', .* got {'far': 'test'"),
    "OtherShape": ("shapes are equal", r"test: its tensors .* got \['float32 \(1, 2\)'"),
    "OtherOrder": ("copies keep the order", "'far': its targets must be those of val, in their"),
    "OtherExamples": ("other examples are new", r"'far': dataset\('val'\): must share no example"),
    "RandomShift": ("shifts repeat", "'far': must be the same each time"),
    "ShiftOfItsPlace": ("shifts repeat", "'further': must depend on the seed and its name alone"),
    "AugmentsAtZero": ("augmentation keeps shapes and targets", "the batch itself at strength 0"),
    "AugmentsTargets": ("augmentation keeps shapes and targets", "must keep the targets"),
    "DigestOfShifts": ("digest identifies the data", "got a different one without shifts"),
    "DigestOfNothing": ("digest identifies the data", "got the same for another seed"),
    "DigestWithoutReference": ("digest identifies the data", "got the same for another seed"),
    "ReferenceOfVal": ("splits are disjoint", r"'val'\): .* such as val\[0\], which is reference"),
    "NoReference": ("splits have examples", "KeyError"),
    "HashOfStrings": ("workers see the same", "must be the same in every process"),
}
BY_NAME = {check.__name__.replace("_", " "): check for check in CHECKS}


def spec(name: str) -> WorkloadSpec:
    return WorkloadSpec(f"broken_workloads:{name}", 0, ("far",), ("further",))


@pytest.mark.parametrize("name", ["Sound", "WithReference"])
def test_a_sound_workload_fails_nothing(name: str) -> None:
    found = {checked.name: checked for checked in check_workload(spec(name))}

    skipped = {name: each.message for name, each in found.items() if each.outcome == "skipped"}
    assert [each for each in found.values() if each.outcome == "failed"] == []
    assert skipped == {"other examples are new": "each shift is a copy of its split"}
    assert list(found) == list(BY_NAME)


@pytest.mark.parametrize("workload", FAULTS)
def test_a_fault_is_found_and_what_to_change_is_said(workload: str) -> None:
    name, message = FAULTS[workload]

    found = next(each for each in check_workload(spec(workload)) if each.name == name)

    assert found.outcome == "failed"
    assert re.search(message, found.message), found.message


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - {"workers see the same"}))
def test_a_check_finds_nothing_in_a_sound_workload(name: str) -> None:
    workload = "NewExamples" if name == "other examples are new" else "Sound"

    assert BY_NAME[name](CheckedWorkload(spec(workload))) is None


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert {name for name, _ in FAULTS.values()} == {*BY_NAME}


def test_what_rests_on_a_failed_check_is_skipped_and_says_on_which() -> None:
    found = {checked.name: checked for checked in check_workload(spec("Empty"))}

    assert found["splits have examples"].outcome == "failed"
    assert found["splits are disjoint"].message == "requires: splits have examples"
    assert found["loss is per example"].message == "requires: outputs are per example"
    assert found["models are reproducible"].outcome == "ok"


def test_shifts_that_are_not_named_are_not_checked() -> None:
    checked = CheckedWorkload(WorkloadSpec("broken_workloads:Sound", 0))

    with pytest.raises(Skipped, match="no shifts are chosen"):
        BY_NAME["copies keep the order"](checked)


def test_a_workload_that_cannot_be_built_is_no_check_that_failed() -> None:
    with pytest.raises(InputError, match="unknown workload in"):
        list(check_workload(spec("Sund")))
