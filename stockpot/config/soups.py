"""The section `soups` of params.yaml: which ingredients go into a soup, and how they are merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from stockpot.config.custom_choices import accept_options, section_by_name
from stockpot.disk_merging.merge_files.rule_section import RuleSection
from stockpot.merging.masks import Masks
from stockpot.merging.signature_layers import SIGNATURES, split_layers
from stockpot.soups.concat.options import CONCAT
from stockpot.soups.selection.registry import SELECTIONS
from stockpot.soups.selection.rule import Rule
from stockpot.soups.weighting import check_coefficients
from stockpot.yaml_files import Name, Section


class SoupRecipe(Section):
    """A soup: ingredients to choose from, and the selection that chooses."""

    name: Name
    ingredients: Sequence[str] = Field(
        (), description="patterns of ingredient names to choose from; empty: all"
    )
    select: str

    @property
    def rule(self) -> Rule:
        """The selection."""
        return SELECTIONS[self.select]

    @property
    def settings(self) -> dict[str, Any]:
        """The selection's options."""
        return {name: getattr(self, name) for name in self.rule.options}

    @property
    def merge_method(self) -> str:
        """The merge method; `wise_ft`, where the selection returns a point on a path."""
        return "wise_ft"

    @property
    def merge_options(self) -> Mapping[str, int | float | bool | str]:
        """Options of the merge method and of its preparation."""
        return {}

    @property
    def merge_exceptions(self) -> dict[str, Any]:
        """Rules for single tensors, what happens to masks, and whether adapters are merged."""
        return {"rules": (), "masks": None, "core_space": False}


class MergedRecipe(SoupRecipe):
    """A soup of the chosen ingredients, by any merge method."""

    method: str = Field("linear", description="merge method, or module:function of your own")
    options: dict[str, int | float | bool | str] = Field(
        {}, description="options of the merge method and of its preparation"
    )
    rules: list[RuleSection] = Field(
        [], description="tensors that are merged in another way; the first that matches applies"
    )
    masks: Masks | None = Field(
        None,
        description="for pruned ingredients of different masks: the weights that are kept, of any, "
        "all, or the first ingredient; none: all weights, also those that were 0",
    )
    core_space: bool = Field(
        False,
        description="merge the LoRA adapters of ingredients as small matrices in common bases "
        "(Panariello et al. 2025)",
    )

    @property
    def merge_method(self) -> str:
        """The merge method; `wise_ft`, where the selection returns a point on a path."""
        return "wise_ft" if self.rule.is_on_path else self.method

    @property
    def merge_options(self) -> Mapping[str, int | float | bool | str]:
        """Options of the merge method and of its preparation."""
        return self.options

    @property
    def merge_exceptions(self) -> dict[str, Any]:
        """Rules for single tensors, what happens to masks, and whether adapters are merged."""
        rules = tuple(rule.built for rule in self.rules)
        return {"rules": rules, "masks": self.masks, "core_space": self.core_space}

    @field_validator("method")
    @classmethod
    def _method_is_known(cls, method: str) -> str:
        if method not in ("linear", CONCAT):  # the others import torch, which takes a second
            from stockpot.merging.registry import METHODS

            METHODS[method]
        return method

    @model_validator(mode="after")
    def _method_accepts_the_options(self) -> MergedRecipe:
        if self.method != "linear" or self.options:
            from stockpot.merging.recipe import Recipe
            from stockpot.soups.preparation.options import split_options

            _, options = split_options(self.method, self.options)
            if self.method == CONCAT:
                return self._is_of_whole_nets()
            if self.method == SIGNATURES:
                return self._has_roles()
            Recipe(self.method, (1.0, 1.0), options).check(has_base=True)
        return self

    @model_validator(mode="after")
    def _method_has_the_coefficients(self) -> MergedRecipe:
        if self.rule.is_weighted:
            check_coefficients(self.select, self.method)
        return self

    @model_validator(mode="after")
    def _cores_are_of_adapters_alone(self) -> MergedRecipe:
        if not self.core_space:
            return self
        for name in ("rules", "masks"):
            if getattr(self, name):
                raise ValueError(
                    f"{name} are not for core_space, which merges adapters; remove them"
                )
        needs_data = False
        if self.method not in ("linear", CONCAT):
            from stockpot.merging.registry import METHODS

            needs_data = METHODS[self.method].side_information is not None
        if self.method in (CONCAT, SIGNATURES) or needs_data:
            raise ValueError(
                "core_space needs a method that merges matrices without data, got "
                f"{self.method!r}; take ties, tsv or iso_c, for example"
            )
        return self

    def _has_roles(self) -> MergedRecipe:
        from stockpot.merging.recipe import Recipe

        if self.select != "uniform":
            raise ValueError(
                f"select must be uniform for method {SIGNATURES}, which merges ingredients by "
                f"their corruption, got {self.select!r}; choose them by `ingredients`"
            )
        if self.rules:
            raise ValueError(f"rules are not for method {SIGNATURES}; remove them")
        _, options = split_layers(self.options)
        Recipe(self.method, (1.0,) * 3, options).check(has_base=True)
        return self

    def _is_of_whole_nets(self) -> MergedRecipe:
        given = [name for name in ("rules", "masks") if getattr(self, name)]
        if given:
            raise ValueError(
                f"{given[0]} are not for method concat, which changes no weight; remove them"
            )
        return self


class CustomRecipe(MergedRecipe, extra="allow"):
    """A soup by a selection of your own; the selection's options are further fields."""

    select: str = Field(pattern=r"^[\w.]+:\w+$", description="module:function")

    @model_validator(mode="after")
    def _selection_accepts_the_options(self) -> CustomRecipe:
        rule = self.rule
        unused = {"method", "options", "rules", "masks", "core_space"} if rule.is_on_path else set()
        accept_options(self, rule.options, unused=frozenset(unused))
        return self


def _base_of(rule: Rule) -> type[SoupRecipe]:
    return SoupRecipe if rule.is_on_path else MergedRecipe


if TYPE_CHECKING:
    SoupSection = SoupRecipe
else:
    SoupSection = section_by_name("select", SELECTIONS, _base_of, CustomRecipe)
