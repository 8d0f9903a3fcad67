"""The sections of params.yaml as typed, frozen objects that validate themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stockpot.config.diagnose import (
    Diagnose,
    DiagnosticSection,
    UsersFunction,
    check_chosen,
)
from stockpot.config.soups import SoupSection
from stockpot.config.sweep import BaseSection, SweepSection
from stockpot.config.tune import TuneSection
from stockpot.errors import unknown_name
from stockpot.soups.concat.options import CONCAT
from stockpot.storage.remote.opening import check_address
from stockpot.workloads import shift_names
from stockpot.workloads.samples import whole_and_size
from stockpot.yaml_files import Fraction, Name, Section


class WorkloadSection(Section):
    """The data, the model architecture and the metrics."""

    name: str = Field("digits", description="a built-in workload, or module:Class for your own")
    val_shifts: list[str] = Field(
        ["blur", "scale"], description="shifts of val, which selection and tuning may use"
    )
    test_shifts: list[str] = Field(
        ["noise", "rotate", "translate", "contrast", "occlude"],
        description="shifts of test, for the evaluation only",
    )
    options: dict[str, int | float | str | bool] = Field({}, description="options of the workload")

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
            if whole_and_size(shift)[1] is not None:
                raise ValueError(
                    f"the name of a shift must not end in a number in brackets, which stands for "
                    f"a sample of a set, got {shift!r}; rename it"
                )
        return self


class RepeatsSection(Section):
    """Averages of repeated predictions of one model, a baseline at several times the cost."""

    m: int = Field(8, ge=0, description="repetitions; 0: no such baseline")
    source: Literal["tta", "noise", "mc_dropout"] = Field(
        "tta", description="source of the differences: augmented inputs, noisy inputs, or dropout"
    )
    strength: float = Field(
        0.1, ge=0, description="of the augmentation, in [0, 1], or of the noise"
    )
    average: Literal["logits", "probs"] = "logits"


class EvaluateSection(Section):
    """The evaluation of models on test and the test shifts."""

    bootstrap: int = Field(2000, ge=100, description="bootstrap resamples of the examples")
    confidence: Fraction = Field(0.95, description="level of all confidence intervals")
    random_soups: int = Field(
        32, ge=0, description="random soups to compare each soup with; 0: none"
    )
    stack: Literal["coarse", "per_class"] = Field(
        "coarse", description="weights of the stacked ensemble: per model, or per model and class"
    )
    conformal_alpha: Fraction = Field(
        0.1, description="allowed share of prediction sets that miss the target"
    )
    repeats: RepeatsSection = RepeatsSection()
    metrics: list[UsersFunction] = Field(
        [], description="further metrics on test, each a function as module:function"
    )

    @field_validator("metrics")
    @classmethod
    def _metrics_exist(cls, metrics: list[str]) -> list[str]:
        if metrics:
            from stockpot.scoring.metrics.registry import METRICS  # imports torch

            for name in metrics:
                METRICS[name]  # imports the user's module
        return metrics


class PromoteSection(Section):
    """The promotion of a soup to champion in MLflow's model registry."""

    enabled: bool = Field(
        False, description="at the end of a run, let the best soup on val challenge the champion"
    )
    name: Name | None = Field(None, description="of the registered model; null: track.experiment")
    level: Fraction = Field(0.05, description="significance level of the paired test on test")


class TrackSection(Section):
    """The MLflow server and experiment for records."""

    experiment: Name = "stockpot"
    uri: str | None = Field(
        None, description="null: $MLFLOW_TRACKING_URI, or else the project's own store"
    )
    offline: bool = Field(False, description="start even if the server is unreachable")


class RunSection(Section):
    """Devices and worker processes."""

    devices: Literal["auto", "cpu"] | Annotated[list[str], Field(min_length=1)] = Field(
        "auto", description="auto: all GPUs, or else the CPU; or a list such as [cuda:0, cuda:1]"
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="worker processes; auto: one per GPU, or one per CPU core"
    )
    threads: int = Field(
        1, ge=1, description="torch threads per worker; changes results in the last bits"
    )


class Experiment(Section):
    """A complete merge experiment."""

    seed: int = Field(
        0, ge=0, lt=2**32, description="random seed of splits, base, sweep and tuning"
    )
    workload: WorkloadSection = WorkloadSection()
    base: BaseSection = BaseSection()
    sweep: SweepSection
    soups: list[SoupSection] = Field(min_length=1)
    tune: list[TuneSection] = Field([], description="searches for coefficients; []: none")
    diagnose: Diagnose = Field(
        "all",
        description="diagnostics of ingredients and soups: all built-in ones, or a list of names, "
        "of functions as module:function, and of {name: ..., option: ...}; []: none",
    )
    evaluate: EvaluateSection = EvaluateSection()
    promote: PromoteSection = PromoteSection()
    track: TrackSection = TrackSection()
    run: RunSection = RunSection()
    store: str | None = Field(
        None,
        description="a folder, or a URL of fsspec such as s3://bucket/prefix, where models are "
        "shared with other machines; null: checkpoints/ alone",
    )

    @field_validator("store")
    @classmethod
    def _store_is_an_address(cls, store: str | None) -> str | None:
        return None if store is None else check_address(store)

    @field_validator("diagnose")
    @classmethod
    def _diagnostics_are_known(
        cls, diagnose: str | list[str | DiagnosticSection]
    ) -> str | list[str | DiagnosticSection]:
        if isinstance(diagnose, list):
            check_chosen(diagnose)
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
            named = [study.settings.get(name) or () for name in ("objectives", "floor")]
            needs_shifts = any("val_shift" in names for names in named)
            if needs_shifts and not self.workload.val_shifts:
                raise ValueError(
                    f"tune {study.name!r} needs workload.val_shifts, got none; "
                    "mark a shift as val or drop the objective"
                )
        return self

    @model_validator(mode="after")
    def _masks_that_differ_are_joined(self) -> Experiment:
        """Ask for `masks` where ingredients that are pruned differently are merged."""
        sweep = self.sweep.final
        sparsities = sweep.possible_values("sparsity")
        sparsities |= {0.0} if sweep.rounds else set()  # their clients do not prune
        moves = any(sparsities) and any(sweep.possible_values("sparsity_update_every"))
        if len(sparsities) < 2 and not moves:
            return self
        differs = "of different sparsity" if len(sparsities) > 1 else "whose masks move apart"
        for soup in self.soups:
            merges_one = soup.settings.get("k") == 1 or soup.rule.is_on_path
            if soup.merge_method != CONCAT and not merges_one and _has_no_masks(soup):
                raise ValueError(
                    f"soups: {soup.name!r} merges ingredients {differs}, got no masks; "
                    "set masks: union, intersection or first, to say which weights it keeps, or "
                    "none to fill them"
                )
        return self

    @model_validator(mode="after")
    def _templates_are_of_dense_nets(self) -> Experiment:
        is_pruned = any(self.sweep.final.possible_values("sparsity"))
        for soup in self.soups:
            is_mixed = soup.merge_method == CONCAT and soup.merge_options.get("templates")
            if is_pruned and is_mixed and not soup.ingredients:
                raise ValueError(
                    f"soups: {soup.name!r} grows by templates, which fill the zeros of pruned "
                    "ingredients; remove templates, or sparsity from the sweep"
                )
        return self


def _has_no_masks(soup: SoupSection) -> bool:
    """Whether a soup of all ingredients does not say what becomes of masks."""
    return soup.merge_exceptions["masks"] is None and not soup.ingredients


def _is_taken(name: str) -> bool:
    """Whether another model, or another row of the results table, has this name."""
    kinds = ("logit", "probability", "median", "stacked", "mean")
    taken = {"base", "best ingredient", *(f"{kind} ensemble" for kind in kinds)}
    prefixes = ("ingredient-", "imported-", "rounds-", "reference", "phase-")
    return name in taken or name.startswith(prefixes)
