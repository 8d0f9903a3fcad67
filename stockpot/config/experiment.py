"""The sections of params.yaml, typed and frozen; each checks what it can see by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from stockpot.config.space import SpaceSection
from stockpot.config.tune import OptunaTuning, TuneSection
from stockpot.errors import unknown_name
from stockpot.ingredients.finetuning.hyperparameters import Optimizer, Precision, Schedule
from stockpot.ingredients.points import Point
from stockpot.workloads import shift_names
from stockpot.yaml_files import Fraction, Name, Section

DiagnosticName = Literal[
    "barriers",
    "similarity",
    "gradient_groups",
    "loss_plane",
    "geometry",
    "regime",
    "diversity",
    "contributions",
    "soup_size",
]
DIAGNOSTIC_NAMES: tuple[DiagnosticName, ...] = get_args(DiagnosticName)
"""All diagnostics, in the order of the report."""


class WorkloadSection(Section):
    """What models are trained and judged on."""

    name: str = Field("digits", description="a built-in workload, or module:Class of your own")
    val_shifts: list[str] = Field(
        ["blur", "scale"], description="shifts of val that may guide choices"
    )
    test_shifts: list[str] = Field(
        ["noise", "rotate", "translate", "contrast", "occlude"],
        description="shifts of test, opened by evaluation alone",
    )
    options: dict[str, int | float | str | bool] = Field({}, description="the workload's own")

    @model_validator(mode="after")
    def _shifts_are_known_and_apart(self) -> WorkloadSection:
        both = sorted(set(self.val_shifts) & set(self.test_shifts))
        if both:
            raise ValueError(
                f"a shift is for val or for test, never both, got {both} in val_shifts and "
                "test_shifts; remove it from one of them"
            )
        for field in ("val_shifts", "test_shifts"):
            shifts = getattr(self, field)
            if len(set(shifts)) < len(shifts):
                raise ValueError(f"{field} must name each shift once, got {shifts}")
        known = shift_names(self.name)
        for shift in (*self.val_shifts, *self.test_shifts):
            if known is not None and shift not in known:
                raise unknown_name("shift", shift, known)
        return self


class BaseSection(Section):
    """How the base is pretrained: the model that every ingredient starts from."""

    import_: str | None = Field(
        None,
        alias="import",
        description="path of a model of the workload that is the base as it is; then nothing is "
        "pretrained, and the fields below do nothing",
    )
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    epochs: int = Field(
        30, ge=0, description="of all weights; 0, and no probe: the workload's model as it is built"
    )
    batch_size: int = Field(32, ge=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0, description="alpha of the Beta distribution; 0 is off")
    augmentation: float = Field(0.0, ge=0, le=1, description="strength")
    optimizer: Optimizer = "adamw"
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    schedule: Schedule = Field("constant", description="of the learning rate, after warmup")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps")
    clip_norm: float = Field(0.0, ge=0, description="longest gradient; 0 is any")
    precision: Precision = Field("float32", description="of the forward pass")
    frozen: str = Field("", description="patterns of names of tensors that are not trained")
    probe_epochs: int = Field(
        0,
        ge=0,
        description="before the others, of the head alone: a probe that all ingredients share",
    )
    head: str = Field("", description="patterns of the names of the head's tensors; '': last layer")

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


class RepeatsSection(Section):
    """One model asked several times, as a competitor of soups at several times their cost."""

    m: int = Field(8, ge=0, description="how often; 0 leaves it out")
    source: Literal["tta", "noise", "mc_dropout"] = Field(
        "tta", description="why answers differ: augmented inputs, noise on them, dropout layers"
    )
    strength: float = Field(0.1, ge=0, description="of augmentation in [0, 1], or of the noise")
    average: Literal["logits", "probs"] = "logits"


class EvaluateSection(Section):
    """How models are judged on test and the test shifts."""

    bootstrap: int = Field(2000, ge=100, description="resamples of the examples")
    confidence: Fraction = Field(0.95, description="of every interval")
    random_soups: int = Field(
        32, ge=0, description="random soups that each soup is compared with; 0 for none"
    )
    stack: Literal["coarse", "per_class"] = Field(
        "coarse", description="weights of the stacked ensemble: one a model, or one a class too"
    )
    conformal_alpha: Fraction = Field(
        0.1, description="share of prediction sets that may miss the target"
    )
    repeats: RepeatsSection = RepeatsSection()


class PromoteSection(Section):
    """When a soup replaces the champion in MLflow's registry of models."""

    enabled: bool = Field(
        False, description="let the best soup on val challenge the champion at the end of a run"
    )
    name: Name | None = Field(
        None, description="of the registered model; null: that of track.experiment"
    )
    level: Fraction = Field(0.05, description="p of the paired test on test has to be below it")


class TrackSection(Section):
    """Where MLflow records go."""

    experiment: Name = "stockpot"
    uri: str | None = Field(None, description="null: $MLFLOW_TRACKING_URI, else the project's own")
    offline: bool = Field(False, description="start even if the server does not answer")


class RunSection(Section):
    """Where the work is done."""

    devices: Literal["auto", "cpu"] | Annotated[list[str], Field(min_length=1)] = Field(
        "auto", description="auto: every GPU, else the CPU; or a list such as [cuda:0, cuda:1]"
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="worker processes; auto: one a GPU, or one a CPU core"
    )
    threads: int = Field(1, ge=1, description="torch threads a worker; part of the result")


class Experiment(Section):
    """One merge experiment, whole."""

    seed: int = Field(0, ge=0, lt=2**32, description="of splits, base, sweep and tuning")
    workload: WorkloadSection = WorkloadSection()
    base: BaseSection = BaseSection()
    sweep: SweepSection
    soups: list[SoupRecipe] = Field(min_length=1)
    tune: list[TuneSection] = Field([], description="empty: no tuning")
    diagnose: Literal["all"] | list[DiagnosticName] = Field(
        "all", description="which diagnostics to make of ingredients and soups; [] for none"
    )
    evaluate: EvaluateSection = EvaluateSection()
    promote: PromoteSection = PromoteSection()
    track: TrackSection = TrackSection()
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _names_are_unique_and_shifts_suffice(self) -> Experiment:
        names = [recipe.name for recipe in (*self.soups, *self.tune)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names of soups and tune must differ from each other, got {twice}")
        taken = [name for name in names if _is_taken(name)]
        if taken:
            raise ValueError(
                f"names of soups and tune must not be those of other models, got {taken}"
            )
        for study in self.tune:
            needs_shifts = isinstance(study, OptunaTuning) and "val_shift" in study.objectives
            if needs_shifts and not self.workload.val_shifts:
                raise ValueError(
                    f"tune {study.name!r} needs workload.val_shifts, got none; "
                    "mark a shift as val or drop the objective"
                )
        return self


def _check_inside(path: str) -> None:
    """Refuse a path, or a pattern of some, that leaves the project's folder on its way."""
    if not path or ".." in path.split("/"):
        raise ValueError(f"must be in the project's folder or absolute, got {path!r}")


def _is_taken(name: str) -> bool:
    """Say whether a model that is no soup has this name, or a line of the table."""
    kinds = ("logit", "probability", "median", "stacked", "mean")
    taken = {"base", "best ingredient", *(f"{kind} ensemble" for kind in kinds)}
    return name in taken or name.startswith(("ingredient-", "imported-"))
