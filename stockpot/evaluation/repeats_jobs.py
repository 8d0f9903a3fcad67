"""Repeated predictions as plain values that a worker process can be sent; imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from stockpot.keys import code_digest, content_key
from stockpot.models import Model
from stockpot.workloads.spec import WorkloadSpec

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
            code=code_digest("evaluation/repeats.py", "evaluation/ensembles.py"),
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


def predict_repeats(job: RepeatsJob, device: str) -> Model:
    """Make and keep the averaged outputs, and return who made them; runs in a worker process.

    Raises:
        InputError: the source does not fit the model or the workload.
    """
    from stockpot.evaluation.predictions import has_outputs, keep_outputs, load_model, open_set
    from stockpot.evaluation.repeats import repeated_outputs

    entry = job.entry
    missing = [
        name for name in job.sets if not has_outputs(job.root, job.workload, entry.digest, name)
    ]
    if missing:
        net = load_model(job.root, job.workload, job.model.checkpoint, device)
        workload = job.workload.build()
        for name in missing:
            examples = open_set(job.workload, name, device)
            made = repeated_outputs(workload, net, examples, job.repeats, (job.seed, name))
            keep_outputs(job.root, job.workload, entry.digest, name, made)
    return entry
