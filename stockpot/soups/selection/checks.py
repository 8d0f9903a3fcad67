"""Contract checks of selections, on ingredients with made-up scores.

Each check takes a `CheckedRule` and returns what is wrong and what to change, or None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from stockpot.plugins import Check, CheckResult, Skipped, check_options, run_checks
from stockpot.soups.made_up import MadeUpModels, run_twice
from stockpot.soups.selection.candidates import (
    Candidates,
    Paths,
    PathSelection,
    Selection,
    Step,
)
from stockpot.soups.selection.rule import Rule

_NUM_INGREDIENTS = 6


@dataclass(frozen=True)
class CheckedRule:
    """A selection under check.

    Attributes:
        rule: the selection.
        options: values of its options; those that have no default must be given.
    """

    rule: Rule
    options: Mapping[str, Any] = field(default_factory=dict)

    def choose(self, order: Sequence[int] = range(_NUM_INGREDIENTS)) -> Any:
        """Choose among made-up ingredients.

        Args:
            order: the ingredient at each position; all six by default.
        """
        return self.rule.choose(self.argument(order), **self.options)

    def argument(self, order: Sequence[int] = range(_NUM_INGREDIENTS)) -> Candidates | Paths:
        """Return the argument of the rule: points as models, and the origin as their base."""
        made_up = MadeUpModels(order)

        def score_on_path(ingredient: int, alpha: float) -> float:
            return made_up.values_of(alpha * made_up.models[ingredient]).mean().item()

        if self.rule.is_on_path:
            return Paths(made_up.order, made_up.scores, score_on_path)
        return made_up.candidates


def result_is_a_selection(checked: CheckedRule) -> str | None:
    """The result is a `Selection`, or a `PathSelection` for a rule of paths."""
    expected = PathSelection if checked.rule.is_on_path else Selection
    chosen = checked.choose()
    if not isinstance(chosen, expected):
        return (
            f"must return a stockpot.soups.selection.candidates.{expected.__name__}, got "
            f"{type(chosen).__name__}"
        )
    return None


def coefficients_are_of_members(checked: CheckedRule) -> str | None:
    """There are no coefficients, or one finite number per member that is not 0."""
    chosen = checked.choose()
    found = [*getattr(chosen, "coefficients", ())]
    if found and (len(found) != len(chosen.members) or not all(map(math.isfinite, found))):
        return f"must return one finite coefficient per member, or none, got {found}"
    if 0 in found:
        return f"members must have coefficients other than 0, got {found}; leave them out"
    return None


def members_are_ingredients(checked: CheckedRule) -> str | None:
    """At least one ingredient is chosen, by position, and none of them twice."""
    members = [*checked.choose().members]
    if not members or len({*members}) < len(members):
        return f"must choose one ingredient or more, each once, got {members}"
    if not all(type(member) is int and 0 <= member < _NUM_INGREDIENTS for member in members):
        return f"members must be positions from 0 to {_NUM_INGREDIENTS - 1}, got {members}"
    return None


def recorded_scores_are_right(checked: CheckedRule) -> str | None:
    """The scores in steps and points of paths are those of the models."""
    chosen, argument = checked.choose(), checked.argument()
    if isinstance(argument, Paths):
        for point in (chosen.best, *chosen.points):
            score = argument.score(point.ingredient, point.alpha)
            if not math.isclose(point.score, score):
                return f"the score of {point} must be {score}, that of this point"
        return None
    if not chosen.steps:
        raise Skipped("no steps are returned")
    return next(filter(None, map(_problem_of, chosen.steps)), None)


def _problem_of(step: Step) -> str | None:
    """Return what is wrong with the score and the values of a step."""
    if step.stopped:
        if (step.accepted, step.score, step.values) != (False, None, None):
            return "a step that was `stopped` must be rejected, without a score and values"
    elif step.score is None or step.values is None:
        return "a step must have a score and values, or say in `stopped` what is known of it"
    elif not math.isclose(step.score, step.values.mean().item()):
        return f"the score of a step must be the mean of its values, got {step.score}"
    return None


def choice_is_deterministic(checked: CheckedRule) -> str | None:
    """Equal ingredients give the same choice, whatever the global random state."""
    first, second = run_twice(checked.choose)
    if first != second:
        return (
            "must choose the same for equal ingredients, got others; draw no random numbers but "
            "those of a generator with the seed candidates.seed"
        )
    return None


def arguments_are_unchanged(checked: CheckedRule) -> str | None:
    """The lists of the argument are not modified."""
    argument, unused = checked.argument(), checked.argument()
    checked.rule.choose(argument, **checked.options)
    if (argument.order, argument.scores) != (unused.order, unused.scores):
        return "must leave order and scores unchanged, got modified ones; change a copy"
    return None


def positions_have_no_effect(checked: CheckedRule) -> str | None:
    """The choice depends on the scores of ingredients, not on their positions."""
    order = [*range(1, _NUM_INGREDIENTS), 0]
    first, second = checked.choose(), checked.choose(order)
    if {*first.members} != {order[member] for member in second.members}:
        return (
            "must choose the same ingredients at other positions, got others; positions start in "
            "the order of the sweep, so go through `order`"
        )
    return None


def one_ingredient_is_enough(checked: CheckedRule) -> str | None:
    """A single ingredient is chosen if there is no other."""
    members = [*checked.choose([0]).members]
    if members != [0]:
        return f"must choose the only ingredient, 0, got {members}"
    return None


CHECKS: dict[Check[CheckedRule], tuple[Check[CheckedRule], ...]] = {
    result_is_a_selection: (),
    members_are_ingredients: (result_is_a_selection,),
    coefficients_are_of_members: (members_are_ingredients,),
    recorded_scores_are_right: (members_are_ingredients,),
    choice_is_deterministic: (members_are_ingredients,),
    arguments_are_unchanged: (members_are_ingredients,),
    positions_have_no_effect: (choice_is_deterministic,),
    one_ingredient_is_enough: (members_are_ingredients,),
}
"""The checks in order, each with those that it requires."""


def check_selection(
    rule: Rule, options: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[CheckResult]:
    """Check a selection and yield the result of each check.

    Args:
        rule: the selection, e.g. `stockpot.soups.selection.registry.SELECTIONS["my_module:rule"]`.
        options: values of its options; those that have no default must be given.

    Raises:
        InputError: an option is unknown or missing.
    """
    check_options(f"selection {rule.choose.__name__}", rule.options, options)
    yield from run_checks(CHECKS, CheckedRule(rule, options))
