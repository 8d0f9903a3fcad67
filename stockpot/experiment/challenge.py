"""Two models on the test split: does the challenger beat the champion?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.storage.checkpoints import Checkpoint
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from stockpot.statistics.values import Floats


@dataclass(frozen=True, slots=True)
class Duel:
    """Two models to be compared on test, as plain values that a worker process can be sent."""

    root: Path
    workload: WorkloadSpec
    challenger: Checkpoint
    champion: Checkpoint
    level: float
    resamples: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the paired test says, in the metric's own unit.

    Attributes:
        is_promoted: whether the challenger wins.
        reason: why, in a sentence.
        metric: what was compared.
        challenger: its mean on test.
        champion: its mean on test.
        comparison: the fields of `stockpot.statistics.comparisons.Comparison`.
    """

    is_promoted: bool
    reason: str
    metric: str
    challenger: float
    champion: float
    comparison: dict[str, Any]


def judge_duel(duel: Duel, device: str) -> Verdict:
    """Compare two models on test, from kept predictions or else new ones.

    Runs in a worker process.

    Raises:
        InputError: predictions have to be made, and the weights are missing or damaged.
    """
    from stockpot.experiment.promotion_test import judge_challenger
    from stockpot.statistics.comparisons import compare
    from stockpot.statistics.intervals import Intervals

    metric = next(iter(duel.workload.build().metrics))
    own, reference = (_values(duel, each, device) for each in (duel.challenger, duel.champion))
    seed = duel.workload.seed
    decision = judge_challenger(own, reference, metric, level=duel.level, seed=seed)
    compared = compare(own, reference, Intervals(duel.resamples, 1 - duel.level, seed))
    return Verdict(
        is_promoted=decision.is_promoted,
        reason=decision.reason,
        metric=metric,
        challenger=float(own.mean()),
        champion=float(reference.mean()),
        comparison=asdict(compared),
    )


def _values(duel: Duel, checkpoint: Checkpoint, device: str) -> Floats:
    """Return per-example values (N,) on test of the metric that choices use."""
    from stockpot.scoring.predictions import load_outputs, load_targets, predict

    try:
        predict(duel.root, duel.workload, checkpoint, device, ("test",))
    except InputError as error:
        raise InputError(
            f"promote: neither predictions nor weights of the model with digest "
            f"{checkpoint.digest} are here ({error}); get the weights with `dvc pull`, or put an "
            "earlier champion back with `stockpot promote --rollback`"
        ) from error
    outputs = load_outputs(duel.root, duel.workload, checkpoint.digest, "test")
    compute = next(iter(duel.workload.build().metrics.values()))
    values = compute(outputs, load_targets(duel.root, duel.workload, "test"))
    return values.double().numpy()
