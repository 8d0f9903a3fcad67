"""The sections `base` and `sweep` of params.yaml: how ingredients come to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stockpot.config.hyperparameter_fields import offered_fields, with_fields
from stockpot.config.space import SpaceSection
from stockpot.ingredients.finetuning.hyperparameters import Base
from stockpot.ingredients.points import Point
from stockpot.yaml_files import Section


@with_fields(offered_fields(Base), lambda field: field.value_type)
class BaseSection(Section):
    """How the base is pretrained: the model that every ingredient starts from."""

    import_: str | None = Field(
        None,
        alias="import",
        description="path of a model of the workload that is the base as it is; then nothing is "
        "pretrained, and the fields below do nothing",
    )

    @field_validator("import_")
    @classmethod
    def _path_stays_inside(cls, path: str | None) -> str | None:
        if path is not None:
            _check_inside(path)
        return path


class PrecheckSection(Section):
    """What ingredients must show before any of them is merged; what failed is named with why."""

    max_barrier: float = Field(
        0.05,
        gt=0,
        description="of the val metric: what may be lost half-way to the mean of the others (share "
        "of the base's score, for what is no classification)",
    )
    delta: float = Field(
        0.01, ge=0.001, lt=1, description="probability of a false alarm about val's data"
    )
    on_fail: Literal["exclude", "stop", "warn"] = Field(
        "exclude", description="exclude: no soup may use it; stop: the run fails; warn: no more"
    )


class SweepSection(Section):
    """The fine-tuning runs: how many, over which hyperparameters, searched how."""

    search: Literal["random", "sobol", "grid", "list", "soup"] = Field(
        "sobol", description="soup: in rounds, each where the greedy soup gained most on val"
    )
    import_: str | Sequence[str] = Field(
        (),
        alias="import",
        description="paths of checkpoints that are ingredients as they are, or patterns of some, "
        "e.g. runs/*/model.safetensors; relative ones start from the project's folder",
    )
    on_foreign: Literal["exclude", "stop"] = Field(
        "exclude",
        description="an imported checkpoint of another model, or with NaN in it, is named and left "
        "out (exclude), or stops the run (stop)",
    )
    size: int | None = Field(
        16,
        ge=0,
        description="ingredients that are trained; null: all of a grid or list; 0: imported ones "
        "alone",
    )
    min_ingredients: int = Field(4, ge=1, description="fewer good ones than this is an error")
    retries: int = Field(1, ge=0, description="for a lost worker process; never for divergence")
    timeout_seconds: float = Field(3600, gt=0, description="for one ingredient")
    save_every_seconds: float = Field(
        30, gt=0, description="how often a fine-tuning saves its state, to resume from"
    )
    snapshots: int = Field(
        0,
        ge=0,
        description="checkpoints kept along each run, evenly spaced over its epochs, as "
        "ingredients of their own: ingredient-03-epoch-4 is one",
    )
    space: SpaceSection = Field(
        SpaceSection.model_construct(),
        description="a distribution, or a constant, per hyperparameter; not needed with size 0",
    )
    list: Annotated[
        Sequence[dict[str, float | str]],
        Field(description="search: list; hyperparameters of each ingredient, over the space"),
    ] = ()
    precheck: PrecheckSection = PrecheckSection()

    @field_validator("list")
    @classmethod
    def _listed_values_are_possible(cls, points: Sequence[Point]) -> Sequence[Point]:
        return [SpaceSection.checked_point(point) for point in points]

    @property
    def imports(self) -> tuple[str, ...]:
        """The patterns of what is imported."""
        return (self.import_,) if isinstance(self.import_, str) else tuple(self.import_)

    @field_validator("import_")
    @classmethod
    def _patterns_stay_inside(cls, patterns: str | Sequence[str]) -> str | Sequence[str]:
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            _check_inside(pattern)
        return patterns

    @model_validator(mode="after")
    def _there_are_ingredients(self) -> SweepSection:
        if self.size == 0 and not self.imports:
            raise ValueError("size must be at least 1 without import, got 0")
        if self.size != 0 and "space" not in self.model_fields_set:
            raise ValueError("space is required where size is not 0, got nothing")
        return self

    @model_validator(mode="after")
    def _the_search_can_give_that_many(self) -> SweepSection:
        from stockpot.ingredients.points import available

        limit = available(self.search, self.space.distributions(), self.list)
        if self.size is None and limit is None:
            raise ValueError(f"size must be a number for search {self.search!r}, got null")
        if limit is not None and self.size is not None and self.size > limit:
            raise ValueError(
                f"size must be at most {limit}, which is all that this {self.search} holds, "
                f"got {self.size}"
            )
        size = limit if self.size is None else self.size
        if size is not None and not self.imports and self.min_ingredients > size:
            raise ValueError(
                f"min_ingredients must be at most size ({size}), got {self.min_ingredients}"
            )
        return self


def _check_inside(path: str) -> None:
    """Refuse a path, or a pattern of some, that leaves the project's folder on its way."""
    if not path or ".." in path.split("/"):
        raise ValueError(f"must be in the project's folder or absolute, got {path!r}")
