"""Rules that merge tensors with certain names in another way than the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from stockpot.errors import InputError
from stockpot.merging.recipe import Recipe, RecipeOf


@dataclass(frozen=True, slots=True)
class NameRule:
    """The way to merge tensors whose names match a pattern: by a metric or another method.

    Attributes:
        match: the pattern, as for files: `*`, `?`, `[0-3]`.
        metric: for symmetric positive definite tensors, see `stockpot.merging.methods.spd_means`.
        method: name of a merge method; None with a metric.
        options: of the method.
        coefficients: one per model, instead of those of the other tensors; empty: the same ones.
    """

    match: str
    metric: str | None = None
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    coefficients: tuple[float, ...] = ()

    def of(self, recipe: Recipe) -> Recipe:
        """Return the recipe of a matching tensor, from that of the others.

        Raises:
            InputError: the rule has coefficients, but not one per model.
        """
        if self.coefficients:
            if len(self.coefficients) != len(recipe.coefficients):
                raise InputError(
                    f"rules: {self.match!r}: coefficients must be one per model "
                    f"({len(recipe.coefficients)}), got {len(self.coefficients)}"
                )
            recipe = replace(recipe, coefficients=tuple(self.coefficients))
        if self.method is None:
            return replace(recipe, metric=self.metric)
        return replace(recipe, method=self.method, options=dict(self.options), side_information=())

    def to_json(self) -> dict[str, Any]:
        """Return the form in manifests and merge files."""
        given = {
            "metric": self.metric,
            "method": self.method,
            "options": dict(self.options),
            "coefficients": [*self.coefficients],
        }
        return {"match": self.match} | {name: value for name, value in given.items() if value}


def by_name(recipe_of: Recipe | RecipeOf, rules: Sequence[NameRule]) -> Recipe | RecipeOf:
    """Return the recipes of tensors by name; the first rule that matches a name applies.

    Args:
        recipe_of: the recipe of the other tensors.
        rules: the rules, in order.
    """
    if not rules:
        return recipe_of
    of_rule: dict[int, Recipe] = {}  # one per rule, since equal ones are checked once

    def chosen(name: str) -> Recipe:
        own = recipe_of if isinstance(recipe_of, Recipe) else recipe_of(name)
        for place, rule in enumerate(rules):
            if fnmatchcase(name, rule.match):
                made = rule.of(own)
                known = of_rule.setdefault(place, made)
                return known if known == made else made
        return own

    return chosen


def check_matches(rules: Sequence[NameRule], names: Collection[str]) -> None:
    """Require that every rule matches a tensor.

    Raises:
        InputError: the first rule that matches none.
    """
    for rule in rules:
        if not any(fnmatchcase(name, rule.match) for name in names):
            raise InputError(
                f"rules: each match must be the pattern of a tensor's name, got {rule.match!r}; "
                f"some of the model's names: {sorted(names)[:3]}"
            )
