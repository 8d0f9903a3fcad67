"""The section `sweep.reference` of params.yaml: a soup that fine-tuning is held near."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from stockpot.config.space import SpaceSection
from stockpot.yaml_files import Section


class ReferenceSection(Section):
    """Independent fine-tunings before the sweep, whose soup is `anchor: soup` of the ingredients.

    They differ in their seeds at least, and are no ingredients themselves.
    """

    size: int = Field(2, ge=2, description="fine-tunings to train")
    select: Literal["uniform", "greedy"] = Field(
        "uniform", description="which of them are averaged; greedy: by their val scores"
    )
    start: Literal["first", "soup", "base"] = Field(
        "first",
        description="what the ingredients start from: the first of the fine-tunings, their soup, "
        "or the base",
    )
    space: SpaceSection | None = Field(
        None, description="their hyperparameters; null: those of sweep.space, without an anchor"
    )

    @field_validator("space")
    @classmethod
    def _has_no_soup_before(cls, space: SpaceSection | None) -> SpaceSection | None:
        if space is not None and "soup" in space.names("anchor"):
            raise ValueError("anchor must be none or base, since there is no soup yet, got soup")
        return space
