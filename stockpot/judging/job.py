"""The jobs of the evaluation, which are sent to worker processes; imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from stockpot.judging.random_soups import RandomSoupsJob
from stockpot.judging.wise_ft import WiseFtJob
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

Granularity = Literal["coarse", "per_class"]
"""Weights of the stacked ensemble: one per model, or one per model and class."""


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """Fields shared by the jobs of an evaluation; the measurement of latency needs no others.

    Attributes:
        root: the project root.
        workload: what models are judged on.
    """

    root: Path
    workload: WorkloadSpec


@dataclass(frozen=True, slots=True)
class PredictionJob(EvaluationJob):
    """Job that caches the predictions of one model.

    Attributes:
        model: which model.
        sets: names of sets: `val`, `test`, `val_shift/<name>` or `test_shift/<name>`.
    """

    model: Model
    sets: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.model.name


@dataclass(frozen=True, slots=True)
class JudgingJob(EvaluationJob):
    """Job that computes the evaluation manifest.

    Attributes:
        models: base, ingredients, soups and tuned soups, in the order of the table.
        bootstrap: number of resamples.
        confidence: of the intervals, in (0, 1).
        stack: granularity of the stacked ensemble's weights.
        alpha: share of conformal prediction sets that may miss the target, in (0, 1).
        excluded: names of ingredients that no soup may use; no ensemble uses them either.
        random_soups: the pools of random soups that soups are compared with.
        wise_ft: the path from the base to the best soup; None without soups.
        metrics: the user's own metrics, each as `module:name`.
    """

    models: tuple[Model, ...]
    bootstrap: int
    confidence: float
    stack: Granularity = "coarse"
    alpha: float = 0.1
    excluded: tuple[str, ...] = ()
    random_soups: tuple[RandomSoupsJob, ...] = ()
    wise_ft: WiseFtJob | None = None
    metrics: tuple[str, ...] = ()


RepeatSource: TypeAlias = Literal["tta", "noise", "mc_dropout"]
RepeatAverage: TypeAlias = Literal["logits", "probs"]

_COPIES = {"tta": "augmented copies", "noise": "noisy copies", "mc_dropout": "dropout passes"}


@dataclass(frozen=True, slots=True)
class Repeats:
    """Settings of several stochastic forward passes whose outputs are averaged.

    Attributes:
        m: number of passes; at least 1.
        source: of the randomness: `tta` augments the inputs, `noise` adds Gaussian noise to them,
            `mc_dropout` leaves the dropout layers active.
        strength: of augmentation in [0, 1], or of the noise, in the inputs' standard deviations;
            ignored by dropout layers, which have their own rates.
        average: of outputs (`logits`) or of probabilities (`probs`).
    """

    m: int
    source: RepeatSource
    strength: float
    average: RepeatAverage


@dataclass(frozen=True, slots=True)
class RepeatsJob(PredictionJob):
    """Job that averages m predictions of one model: a baseline for soups at m-fold cost.

    Attributes:
        repeats: settings of the passes.
        seed: the experiment's.
    """

    repeats: Repeats
    seed: int

    @property
    def name(self) -> str:
        """The name of the entry."""
        return f"best ingredient, {self.repeats.m} {_COPIES[self.repeats.source]}"

    @property
    def entry(self) -> Model:
        """The entry that is judged, of kind `repeats`; its outputs are cached by its digest."""
        key = content_key(
            digest=self.model.digest,
            repeats=asdict(self.repeats),
            seed=self.seed,
            code=code_key("stockpot.judging.repeats"),
        )
        return replace(
            self.model,
            name=self.name,
            kind="repeats",
            key=key,
            digest=key,
            scores={},
            details={"repeats": asdict(self.repeats), "of": self.model.name},
        )


BaselineJob: TypeAlias = RandomSoupsJob | WiseFtJob | RepeatsJob
"""Baselines that need their own forward passes."""
