"""The sections `base` and `sweep` of params.yaml: pretraining and fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from stockpot.config.hyperparameter_fields import offered_fields, with_fields
from stockpot.config.rounds import RoundsSection
from stockpot.config.space import SpaceSection
from stockpot.config.sweep_phases import PhaseSection
from stockpot.config.sweep_reference import ReferenceSection
from stockpot.distributions.values import Constant, Value
from stockpot.ingredients.points import Point, available, plan_points
from stockpot.yaml_files import Section

P = TypeVar("P", bound=str | Sequence[str])


def _inside(paths: P) -> P:
    """Refuse an empty path or pattern, and one with `..`."""
    for path in [paths] if isinstance(paths, str) else paths:
        if not path or ".." in path.split("/"):
            raise ValueError(f"must be in the project's folder or absolute, got {path!r}")
    return paths


@with_fields(offered_fields("base"), lambda field: field.value_type)
class BaseSection(Section):
    """Pretraining of the base, from which every ingredient is fine-tuned."""

    import_: Annotated[str, AfterValidator(_inside)] | None = Field(
        None,
        alias="import",
        description="path of a checkpoint to use as the base instead of pretraining; the fields "
        "below then have no effect",
    )


class PrecheckSection(Section):
    """Checks of ingredients before merging; failures are reported with their reasons."""

    max_barrier: float = Field(
        0.05,
        gt=0,
        description="largest loss of the val metric half-way to the mean of the other ingredients; "
        "unless it is classification, as a share of the base's score",
    )
    delta: float = Field(
        0.01, ge=0.001, lt=1, description="probability of a false alarm of the check of val's data"
    )
    on_fail: Literal["exclude", "stop", "warn"] = Field(
        "exclude",
        description="exclude: soups do not use it; stop: the run fails; warn: a warning only",
    )


class SweepSection(Section):
    """The fine-tuning runs: their number, hyperparameters and search."""

    search: Literal["random", "sobol", "grid", "list", "soup"] = Field(
        "sobol",
        description="soup: in rounds, each where the greedy soup is likely to gain most on val",
    )
    import_: Annotated[str | Sequence[str], AfterValidator(_inside)] = Field(
        (),
        alias="import",
        description="paths or patterns of checkpoints to use as further ingredients, e.g. "
        "runs/*/model.safetensors; relative ones start from the project's folder",
    )
    align: Literal["weights", "activations"] | None = Field(
        None,
        description="for imported models that share no base: permute the units of each to match "
        "the first one's, by weights or by activations on train; null: merge them as they are",
    )
    on_foreign: Literal["exclude", "stop"] = Field(
        "exclude",
        description="for an imported checkpoint that does not match the model or contains NaN: "
        "report it and leave it out (exclude), or stop the run (stop)",
    )
    size: int | None = Field(
        16,
        ge=0,
        description="ingredients to train; null: all of a grid or list; 0: only imported ones",
    )
    min_ingredients: int = Field(4, ge=1, description="the run fails if fewer ingredients succeed")
    retries: int = Field(
        1, ge=0, description="after the loss of a worker process; not after divergence"
    )
    timeout_seconds: float = Field(
        3600, gt=0, description="per ingredient; in rounds, per client and round"
    )
    save_every_seconds: float = Field(
        30, gt=0, description="interval at which a run saves its state, from which it resumes"
    )
    snapshots: int = Field(
        0,
        ge=0,
        description="checkpoints to save along each run, evenly spaced over its epochs, as "
        "further ingredients, e.g. ingredient-03-epoch-4",
    )
    space: SpaceSection = Field(
        SpaceSection.model_construct(),
        description="a distribution, or a constant, per hyperparameter; optional with size 0",
    )
    list: Annotated[
        Sequence[dict[str, float | str]],
        Field(
            description="for search: list; per ingredient, hyperparameters that replace the space's"
        ),
    ] = ()
    rounds: Annotated[
        Sequence[RoundsSection],
        Field(
            description="further ingredients, each made in rounds: clients with shards of train "
            "train for some steps, their models are merged, and they continue from the merge"
        ),
    ] = ()
    reference: ReferenceSection | None = Field(
        None, description="the soup that anchor: soup holds the ingredients near; null: none"
    )
    phases: Annotated[
        Sequence[PhaseSection],
        Field(
            description="sparse model soups: prune, retrain several times, average, and repeat "
            "from the average; the models of the last phase are the ingredients"
        ),
    ] = ()
    precheck: PrecheckSection = PrecheckSection()

    @field_validator("list")
    @classmethod
    def _listed_values_are_possible(cls, points: Sequence[Point]) -> Sequence[Point]:
        return [SpaceSection.checked_point(point) for point in points]

    @field_validator("phases")
    @classmethod
    def _sparsity_rises(cls, phases: Sequence[PhaseSection]) -> Sequence[PhaseSection]:
        given = [phase.sparsity for phase in phases]
        if any(after <= before for before, after in pairwise(given)):
            raise ValueError(
                f"sparsity must rise from phase to phase, since pruned weights stay 0, got {given}"
            )
        return phases

    @property
    def imports(self) -> tuple[str, ...]:
        """The paths and patterns of imported checkpoints."""
        return (self.import_,) if isinstance(self.import_, str) else tuple(self.import_)

    @property
    def final(self) -> SweepSection:
        """The sweep of the ingredients: that of the last phase; without phases, this one."""
        return self.in_phase(len(self.phases)) if self.phases else self

    def in_phase(self, number: int) -> SweepSection:
        """Return the sweep of one phase, counted from 1, without phases of its own."""
        phase = self.phases[number - 1]
        epochs = {} if phase.epochs is None else {"epochs": phase.epochs}
        space = self.space.model_copy(update={"sparsity": phase.sparsity, **epochs})
        size = self.size if phase.models is None else phase.models
        return self.model_copy(update={"space": space, "size": size, "phases": ()})

    def possible_values(self, name: str) -> set[Value]:
        """Return the values that a numeric hyperparameter may have; of a range, its ends."""
        axis = self.space.distributions()[name]
        drawn: set[Value] = {axis.value} if isinstance(axis, Constant) else {*axis.bounds()}
        listed = [{point[name]} if name in point else drawn for point in self.list]
        return set[Value]().union(*(listed or [drawn]))

    def points(self, seed: int, size: int | None) -> Sequence[Point]:
        """Draw the hyperparameters of ingredients; search `soup` begins like `sobol`.

        Args:
            seed: of the search.
            size: number of points; None for all of a grid or list.
        """
        search = "sobol" if self.search == "soup" else self.search
        return plan_points(search, self.space.distributions(), self.list, size, seed)

    @model_validator(mode="after")
    def _there_are_ingredients(self) -> SweepSection:
        if self.size == 0 and not self.imports and not self.rounds:
            raise ValueError("size must be at least 1 without import or rounds, got 0")
        names = [recipe.name for recipe in self.rounds]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"names of rounds must differ from each other, got {twice}")
        if self.size != 0 and "space" not in self.model_fields_set:
            raise ValueError("space is required where size is not 0, got nothing")
        return self

    @model_validator(mode="after")
    def _imports_alone_are_aligned(self) -> SweepSection:
        if self.align is None:
            return self
        if not self.imports:
            raise ValueError(f"align is for imported ingredients, got {self.align!r} and no import")
        if self.size != 0 or self.rounds:
            found = f"size {self.size}" if self.size != 0 else f"{len(self.rounds)} rounds"
            raise ValueError(
                f"align must be null unless all ingredients are imported, got {found}: what is "
                "trained here shares the base, which imported models do not; set size: 0 and "
                "remove rounds, or remove align"
            )
        return self

    @model_validator(mode="after")
    def _anchors_have_a_reference(self) -> SweepSection:
        if self.size == 0 and self.reference is None:
            return self
        anchors = {*self.space.names("anchor")}
        anchors |= {point["anchor"] for point in self.list if "anchor" in point}
        if "soup" in anchors and self.reference is None:
            raise ValueError("reference is required where anchor is soup, got nothing")
        if "soup" not in anchors and self.reference is not None:
            raise ValueError(
                "reference must be the anchor of ingredients, got anchors "
                f"{sorted(map(str, anchors))}; set space.anchor to soup, or remove it"
            )
        return self

    @model_validator(mode="after")
    def _phases_fit_the_sweep(self) -> SweepSection:
        if not self.phases:
            return self
        if self.size == 0:
            raise ValueError("size must be at least 1 with phases, got 0")
        if self.reference is not None:
            raise ValueError(
                "reference must be null with phases, whose ingredients start from an average, got "
                f"one of size {self.reference.size}"
            )
        has_epochs = any(phase.epochs for phase in self.phases)
        if has_epochs and any("epochs" in point for point in self.list):
            raise ValueError("phases: epochs must be null where list has epochs, got both")
        return self

    @model_validator(mode="after")
    def _masks_are_those_of_the_phases(self) -> SweepSection:
        if not self.phases:
            return self
        axes = self.space.distributions()
        listed = {name for point in self.list for name in point}
        for name in ("sparsity", "sparsity_update_every"):
            if name in listed or axes.get(name, Constant(0)) != Constant(0):
                raise ValueError(
                    f"{name} must be 0 in space and list with phases, whose models have one mask, "
                    "got another value"
                )
        return self

    @model_validator(mode="after")
    def _the_search_can_give_that_many(self) -> SweepSection:
        sizes = {f"phases.{n}.models": self.in_phase(n + 1) for n in range(len(self.phases))}
        for name, sweep in (sizes or {"size": self}).items():
            count = sweep._checked_size(name)
        if count is None or self.imports:
            return self
        if self.min_ingredients > count + len(self.rounds):
            more = f" plus rounds ({len(self.rounds)})" if self.rounds else ""
            made = f"{name} ({count}){more}"
            raise ValueError(f"min_ingredients must be at most {made}, got {self.min_ingredients}")
        return self

    def _checked_size(self, name: str) -> int | None:
        """Return the number of points, of which a search has enough; None if it has no end.

        Raises:
            ValueError: about the field of that name.
        """
        limit = available(self.search, self.space.distributions(), self.list)
        if self.size is None and limit is None:
            raise ValueError(f"{name} must be a number for search {self.search!r}, got null")
        if limit is not None and self.size is not None and self.size > limit:
            raise ValueError(
                f"{name} must be at most {limit}, which is all that this {self.search} holds, "
                f"got {self.size}"
            )
        return limit if self.size is None else self.size
