"""Judging as plain values that a worker process can be sent; imports no torch."""

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
"""Whether a model has one weight in the stacked ensemble, or one a class."""


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """The predictions of one model.

    Attributes:
        root: the project root.
        workload: what the model is judged on.
        model: which model.
        sets: on what: `val`, `test`, `val_shift/<name>` or `test_shift/<name>`.
    """

    root: Path
    workload: WorkloadSpec
    model: Model
    sets: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.model.name


@dataclass(frozen=True, slots=True)
class JudgingJob:
    """The verdict on all models.

    Attributes:
        root: the project root.
        workload: what models are judged on.
        models: base, ingredients, soups and tuned soups, in the order of the table.
        bootstrap: number of resamples.
        confidence: of the intervals, in (0, 1).
        stack: whether the stacked ensemble has a weight a model, or a weight a model and class.
        alpha: share of conformal prediction sets that may miss, in (0, 1).
        excluded: names of ingredients that no soup may hold; they are in no ensemble either.
        random_soups: the pools of random soups that soups are compared with.
        wise_ft: the path from the base to the best soup; None where there is no soup.
    """

    root: Path
    workload: WorkloadSpec
    models: tuple[Model, ...]
    bootstrap: int
    confidence: float
    stack: Granularity = "coarse"
    alpha: float = 0.1
    excluded: tuple[str, ...] = ()
    random_soups: tuple[RandomSoupsJob, ...] = ()
    wise_ft: WiseFtJob | None = None


@dataclass(frozen=True, slots=True)
class CostJob:
    """The measurement of how long a prediction takes.

    Attributes:
        root: the project root.
        workload: whose model is run.
    """

    root: Path
    workload: WorkloadSpec


RepeatSource: TypeAlias = Literal["tta", "noise", "mc_dropout"]
RepeatAverage: TypeAlias = Literal["logits", "probs"]

_COPIES = {"tta": "augmented copies", "noise": "noisy copies", "mc_dropout": "dropout passes"}


@dataclass(frozen=True, slots=True)
class Repeats:
    """How one model is asked several times about one example.

    Attributes:
        m: how often; at least 1.
        source: why its answers differ: `tta`, augmented inputs; `noise`, Gaussian noise on the
            inputs; `mc_dropout`, its dropout layers at work.
        strength: of augmentation in [0, 1], or of the noise, in the inputs' standard deviations;
            dropout layers have rates of their own.
        average: what is averaged, outputs (`logits`) or probabilities (`probs`).
    """

    m: int
    source: RepeatSource
    strength: float
    average: RepeatAverage


@dataclass(frozen=True, slots=True)
class RepeatsJob:
    """The averaged predictions of one model, which is what a soup competes with at m-fold cost.

    Attributes:
        root: the project root.
        workload: what the model is judged on.
        model: which model; the best ingredient.
        repeats: how it is asked.
        seed: the experiment's.
        sets: which sets, as in `predictions`.
    """

    root: Path
    workload: WorkloadSpec
    model: Model
    repeats: Repeats
    seed: int
    sets: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the entry is called."""
        copies = _COPIES[self.repeats.source]
        return f"best ingredient, {self.repeats.m} {copies}"

    @property
    def entry(self) -> Model:
        """The entry that is judged, of kind `repeats`.

        Its digest is a key under which its outputs are kept, as if they were those of weights.
        """
        key = content_key(
            digest=self.model.digest,
            repeats=asdict(self.repeats),
            seed=self.seed,
            code=code_key("stockpot.judging.repeats"),
        )
        details = {"repeats": asdict(self.repeats), "of": self.model.name}
        return replace(
            self.model,
            name=self.name,
            kind="repeats",
            key=key,
            digest=key,
            scores={},
            details=details,
        )


BaselineJob: TypeAlias = RandomSoupsJob | WiseFtJob | RepeatsJob
"""What models are compared with that needs forward passes of its own."""
