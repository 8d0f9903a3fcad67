"""Contract checks of diagnostics, on small models of digits that are not trained.

Each check takes a `CheckedDiagnostic` and returns what is wrong and what to change, or None.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.states import are_equal, mean_state
from stockpot.errors import InputError
from stockpot.plugins import Check, CheckResult, run_checks
from stockpot.seeding import seeded_generator
from stockpot.storage.store import Store
from stockpot.workloads.batches import subset
from stockpot.workloads.digits import Digits
from stockpot.workloads.protocol import Shift

Diagnostic = Callable[[DiagnosticContext], Finding]

_NUM_EXAMPLES = 64
_NAMES = tuple(f"ingredient-{number:02d}" for number in range(4))


class _WithoutTest(Digits):
    """A few digits of each split; test and its shifts cannot be opened."""

    def dataset(self, split: str) -> Any:
        if split == "test":
            raise InputError("must not open test, got dataset('test'); use train or val")
        return subset(super().dataset(split), torch.arange(_NUM_EXAMPLES))

    def shifts(self) -> Mapping[str, Shift]:
        return {
            name: shift if shift.split == "val" else replace(shift, dataset=partial(_refuse, name))
            for name, shift in super().shifts().items()
        }


def _refuse(name: str) -> Dataset[Any]:
    raise InputError(f"must not open shifts of test, got {name!r}; use those of val")


@dataclass(frozen=True)
class CheckedDiagnostic:
    """A diagnostic under check."""

    diagnostic: Diagnostic

    def context(self, folder: Path) -> DiagnosticContext:
        """Build a context with models whose weights are near to those of a base."""
        workload = _WithoutTest(0, ("blur",), ("noise",))
        net = workload.build_model(seeded_generator("check of a diagnostic"))
        base = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
        states = [_moved(base, number) for number in range(len(_NAMES))]

        def model(kind: str, name: str, state: dict[str, Tensor], **details: Any) -> LoadedModel:
            stored = Store(folder).save(kind, f"{kind}-{name}", name, state, {})
            scores = {"val/accuracy": 0.5, "val/loss": 2.3}
            return LoadedModel(folder, replace(stored, details=details).scored(scores))

        equal = dict.fromkeys(_NAMES, 1 / len(_NAMES))
        return DiagnosticContext(
            workload=workload,
            device="cpu",
            seed=0,
            metric="accuracy",
            base=model("base", "base", base),
            ingredients=tuple(
                model("ingredient", *pair) for pair in zip(_NAMES, states, strict=True)
            ),
            soups=(model("soup", "uniform", mean_state(states), coefficients=equal),),
        )

    def find(self) -> tuple[Any, list[str]]:
        """Run the diagnostic once, on new files.

        Returns:
            Its result, and the names of the models whose weights it modified.
        """
        with tempfile.TemporaryDirectory() as folder:
            context = self.context(Path(folder))
            found = self.diagnostic(context)
            models = (context.base, *context.ingredients, *context.soups)
            read_again = {one.name: replace(one).weights for one in models}
            return found, [m.name for m in models if not are_equal(m.weights, read_again[m.name])]

    @cached_property
    def first(self) -> tuple[Any, list[str]]:
        """The result of the first run."""
        return self.find()


def result_is_a_finding(checked: CheckedDiagnostic) -> str | None:
    """The result is a `Finding` with a sentence, from train and val alone."""
    finding = checked.first[0]
    if not isinstance(finding, Finding):
        return f"must return a stockpot.diagnostics.finding.Finding, got {type(finding).__name__}"
    sentence: Any = finding.sentence
    if not isinstance(sentence, str) or not sentence.strip():
        return f"must have a sentence with the result, got {sentence!r}"
    return None


def finding_is_json(checked: CheckedDiagnostic) -> str | None:
    """The data are JSON without NaN, and the metrics finite numbers."""
    finding = checked.first[0]
    try:
        json.dumps(finding.to_json(), allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"data must be JSON without NaN, got {error}; use None, .item() and .tolist()"
    for name, value in finding.metrics.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            return f"metric {name!r}: must be a finite number, got {value!r}"
    return None


def alerts_name_models(checked: CheckedDiagnostic) -> str | None:
    """Alerts name models that were diagnosed."""
    known = {"base", *_NAMES, "uniform"}
    unknown = sorted({alert.model for alert in checked.first[0].alerts} - known)
    return f"alerts must name one of {sorted(known)}, got {unknown}" if unknown else None


def models_are_unchanged(checked: CheckedDiagnostic) -> str | None:
    """The weights of the models are not modified."""
    modified = checked.first[1]
    return f"must leave weights unchanged, got other ones of {modified}" if modified else None


def finding_is_deterministic(checked: CheckedDiagnostic) -> str | None:
    """Equal models give the same finding, whatever the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        second, _ = checked.find()
    if checked.first[0] != second:
        return (
            "must find the same for equal models, got another finding; draw from "
            "seeded_generator(context.seed, ...)"
        )
    return None


CHECKS: dict[Check[CheckedDiagnostic], tuple[Check[CheckedDiagnostic], ...]] = {
    result_is_a_finding: (),
    **dict.fromkeys(
        [finding_is_json, alerts_name_models, models_are_unchanged, finding_is_deterministic],
        (result_is_a_finding,),
    ),
}
"""The checks in order, each with those that it requires."""


def check_diagnostic(diagnostic: Diagnostic) -> Iterator[CheckResult]:
    """Check a diagnostic and yield the result of each check."""
    yield from run_checks(CHECKS, CheckedDiagnostic(diagnostic))


def _moved(state: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """Add a tenth of each tensor's deviation as noise."""
    generator = seeded_generator("check of a diagnostic", number)
    return {
        name: tensor
        + 0.1 * tensor.std().nan_to_num() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in state.items()
    }
