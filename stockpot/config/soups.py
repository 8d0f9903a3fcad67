"""The section `soups` of params.yaml: which ingredients go into a soup, merged how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stockpot.yaml_files import Name, Section


class _Choice(Section):
    name: Name
    ingredients: Sequence[str] = Field(
        (), description="patterns of the names of those that may go in; empty: all"
    )


class _Recipe(_Choice):
    method: str = Field("linear", description="merge method")
    options: dict[str, int | float | bool | str] = Field(
        {}, description="the merge method's own, and those of its preparation"
    )

    @field_validator("method")
    @classmethod
    def _method_is_known(cls, method: str) -> str:
        if method != "linear":  # the others import torch, which takes a second
            from stockpot.merging.registry import METHODS

            METHODS[method]
        return method

    @model_validator(mode="after")
    def _method_can_merge_so(self) -> _Recipe:
        if self.method != "linear" or self.options:
            from stockpot.merging.recipe import Recipe
            from stockpot.soups.preparation.options import split_options

            _, options = split_options(self.method, self.options)
            Recipe(self.method, (1.0, 1.0), options).check(has_base=True)
        return self


class UniformRecipe(_Recipe):
    """Average all ingredients."""

    select: Literal["uniform"]


class GreedyRecipe(_Recipe):
    """Add ingredients from the best on, each kept if the val score does not fall."""

    select: Literal["greedy"]


class TopKRecipe(_Recipe):
    """Average the k best ingredients on val."""

    select: Literal["top_k"]
    k: int = Field(ge=1, description="how many; all, where there are fewer")


class WiseFtRecipe(_Choice):
    """The best point on val of those on the straight paths from the base to each ingredient."""

    select: Literal["wise_ft"]


SoupRecipe = Annotated[
    UniformRecipe | GreedyRecipe | TopKRecipe | WiseFtRecipe, Field(discriminator="select")
]
