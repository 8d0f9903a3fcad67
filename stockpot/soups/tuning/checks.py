"""Contract checks of searches, on ingredients with made-up scores.

Each check takes a `CheckedSearch` and returns what is wrong and what to change, or None.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from stockpot.plugins import Check, CheckResult, Skipped, check_options, run_checks
from stockpot.soups.made_up import MadeUpModels, run_twice
from stockpot.soups.tuning.custom_search import SearchKind
from stockpot.soups.tuning.merge import Merge
from stockpot.soups.tuning.search import Found, problem_of

_NUM_INGREDIENTS = 4


class MadeUpContext(MadeUpModels):
    """Points in a space as ingredients, scored by their distance to examples.

    Gradients and weights of models are not made up: checks of a search that uses them are skipped.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(range(_NUM_INGREDIENTS))
        self.journal, self.seed, self.name = journal, 0, "made up"

    def values(self, coefficients: Sequence[float], objectives: Sequence[str]) -> tuple[float, ...]:
        """Score a weighted mean of the points; val shifts score less."""
        shares = torch.tensor(coefficients, dtype=torch.float64)
        score = self.values_of(shares @ self.models / shares.sum()).mean().item()
        return tuple(score if name == "val" else 0.9 * score for name in objectives)

    def score_merges(
        self, merges: Sequence[Merge], objectives: Sequence[str]
    ) -> Iterator[tuple[float, ...]]:
        """Score averages; other merges are not made up."""
        for merge in merges:
            if not merge.is_average:
                raise Skipped("it merges by other methods than linear, which is not made up")
            yield self.values(merge.coefficients, objectives)

    def __getattr__(self, name: str) -> Any:
        raise Skipped(f"it uses `{name}` of the context, which is not made up")


@dataclass(frozen=True)
class CheckedSearch:
    """A search under check.

    Attributes:
        kind: the kind of search.
        options: values of its options; those that have no default must be given.
    """

    kind: SearchKind
    options: Mapping[str, Any] = field(default_factory=dict)

    def find(self) -> Any:
        """Run the search once, with a journal of its own."""
        with tempfile.TemporaryDirectory() as folder:
            context: Any = MadeUpContext(Path(folder) / "journal.log")
            return self.kind.build(**self.options).find(context)


def settings_are_plain_values(checked: CheckedSearch) -> str | None:
    """The search can be built with its options, and its settings are JSON.

    The recipe of one that trains has all options, since only they can run it again.
    """
    search = checked.kind.build(**checked.options)
    for name, settings in {"study": search.study, "recipe": search.recipe}.items():
        try:
            json.dumps(settings, allow_nan=False)
        except (TypeError, ValueError) as error:
            return f"{name}: must be JSON, got {error}; options must be numbers, texts or lists"
    trained = checked.kind.options if getattr(search, "trains", False) else {}
    missing = {"search", "method", *trained} - {*search.recipe}
    return f"recipe: must have {sorted(missing)}, got {sorted(search.recipe)}" if missing else None


def coefficients_are_valid(checked: CheckedSearch) -> str | None:
    """The result has one finite coefficient per ingredient, and their sum is not 0."""
    found = checked.find()
    if not isinstance(found, Found) or not found.rows:
        return f"must return stockpot.soups.tuning.search.Found with rows, got {found!r}"
    for group, row in found.rows.items():
        if problem := problem_of(row, _NUM_INGREDIENTS):
            return f"{group}: {problem}"
    return None


def trials_are_recorded(checked: CheckedSearch) -> str | None:
    """At least one candidate is recorded as a trial with finite scores; all details are JSON."""
    found = checked.find()
    try:
        json.dumps([found.trials, dict(found.details), dict(found.options)], allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"trials and details must be JSON without NaN, got {error}"
    if not found.trials:
        return "must record its candidates as trials, got none; score them by the argument's score"
    return None


def result_is_deterministic(checked: CheckedSearch) -> str | None:
    """The same seed gives the same coefficients, whatever the global random state."""
    first, second = run_twice(lambda: {group: [*row] for group, row in checked.find().rows.items()})
    if first != second:
        return (
            "must find the same coefficients with the same seed, got others; draw random numbers "
            "from a generator that is seeded by the argument's seed"
        )
    return None


CHECKS: dict[Check[CheckedSearch], tuple[Check[CheckedSearch], ...]] = {
    settings_are_plain_values: (),
    coefficients_are_valid: (settings_are_plain_values,),
    trials_are_recorded: (coefficients_are_valid,),
    result_is_deterministic: (coefficients_are_valid,),
}
"""The checks in order, each with those that it requires."""


def check_search(
    kind: SearchKind, options: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[CheckResult]:
    """Check a search and yield the result of each check.

    Args:
        kind: the search, e.g. `stockpot.soups.tuning.registry.SEARCHES["my_module:my_search"]`.
        options: values of its options; those that have no default must be given.

    Raises:
        InputError: an option is unknown or missing.
    """
    check_options("search", kind.options, options)
    yield from run_checks(CHECKS, CheckedSearch(kind, options))
