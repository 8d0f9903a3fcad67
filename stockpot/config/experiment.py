"""The sections of params.yaml, typed and frozen; each checks what it can see by itself."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator, model_validator

from stockpot.config.soups import SoupSection
from stockpot.config.sweep import BaseSection, SweepSection
from stockpot.config.tune import TuneSection
from stockpot.diagnostics.registry import DIAGNOSTICS
from stockpot.errors import unknown_name
from stockpot.workloads import shift_names
from stockpot.yaml_files import Fraction, Name, Section

DIAGNOSTIC_NAMES: tuple[str, ...] = tuple(DIAGNOSTICS)
"""The built-in diagnostics, in the order of the report."""

_USERS_OWN = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"}


def _module_and_function(name: str) -> str:
    if not re.fullmatch(_USERS_OWN["pattern"], name):
        raise ValueError(f"must be module:function, got {name!r}")
    return name


DiagnosticName = Annotated[
    str,
    WithJsonSchema({"anyOf": [{"enum": [*DIAGNOSTIC_NAMES], "type": "string"}, _USERS_OWN]}),
]

UsersFunction = Annotated[str, AfterValidator(_module_and_function), WithJsonSchema(_USERS_OWN)]


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
    metrics: list[UsersFunction] = Field(
        [], description="further metrics on test, each a function as module:function"
    )


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
    soups: list[SoupSection] = Field(min_length=1)
    tune: list[TuneSection] = Field([], description="empty: no tuning")
    diagnose: Literal["all"] | list[DiagnosticName] = Field(
        "all",
        description="diagnostics of ingredients and soups: all built-in ones, or a list of names "
        "and of functions as module:function; []: none",
    )
    evaluate: EvaluateSection = EvaluateSection()
    promote: PromoteSection = PromoteSection()
    track: TrackSection = TrackSection()
    run: RunSection = RunSection()

    @field_validator("diagnose")
    @classmethod
    def _diagnostics_are_known(cls, diagnose: str | list[str]) -> str | list[str]:
        for name in diagnose if isinstance(diagnose, list) else ():
            if name not in DIAGNOSTIC_NAMES:
                DIAGNOSTICS[name]  # imports a user's module to check that it has the function
        return diagnose

    @model_validator(mode="after")
    def _names_are_unique_and_shifts_suffice(self) -> Experiment:
        names = [*(soup.name for soup in self.soups), *(study.name for study in self.tune)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names of soups and tune must differ from each other, got {twice}")
        taken = [name for name in names if _is_taken(name)]
        if taken:
            raise ValueError(
                f"names of soups and tune must not be those of other models, got {taken}"
            )
        for study in self.tune:
            needs_shifts = "val_shift" in study.settings.get("objectives", ())
            if needs_shifts and not self.workload.val_shifts:
                raise ValueError(
                    f"tune {study.name!r} needs workload.val_shifts, got none; "
                    "mark a shift as val or drop the objective"
                )
        return self


def _is_taken(name: str) -> bool:
    """Say whether a model that is no soup has this name, or a line of the table."""
    kinds = ("logit", "probability", "median", "stacked", "mean")
    taken = {"base", "best ingredient", *(f"{kind} ensemble" for kind in kinds)}
    return name in taken or name.startswith(("ingredient-", "imported-"))
