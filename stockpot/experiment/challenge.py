"""Paired test of a challenger against the champion, on the test split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from stockpot.statistics.comparisons import Comparison
    from stockpot.statistics.values import Floats


@dataclass(frozen=True, slots=True)
class Challenger:
    """A model to be tested against the champion; sent to a worker process.

    Attributes:
        root: the project root.
        workload: its test split and first metric are used.
        model: the model.
        level: p of the test has to be below it, in (0, 1).
        resamples: of the bootstrap, if the interval needs one.
        is_named: whether the user named the model, which allows one that was rolled back.
        commit: of the project.
    """

    root: Path
    workload: WorkloadSpec
    model: Model
    level: float
    resamples: int
    is_named: bool
    commit: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of the paired test, in the metric's own unit.

    Attributes:
        is_promoted: whether the challenger wins.
        reason: why, in one sentence.
        metric: name of the metric.
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


def judge_challenge(challenger: Challenger, champion: Checkpoint, device: str) -> Verdict:
    """Compare two models on test, computing predictions that are not cached.

    Runs in a worker process.

    Raises:
        InputError: predictions are not cached, and the weights are missing or damaged.
    """
    own, reference = (
        _values(challenger, weights, device) for weights in (challenger.model.checkpoint, champion)
    )
    return judge_challenger(
        own,
        reference,
        next(iter(challenger.workload.build().metrics)),
        level=challenger.level,
        seed=challenger.workload.seed,
        resamples=challenger.resamples,
    )


def judge_challenger(
    challenger: Floats,
    champion: Floats,
    metric: str,
    *,
    level: float,
    seed: int,
    resamples: int = 2000,
) -> Verdict:
    """Promote a challenger that wins the paired test.

    The test is two-sided and a win lies on one side: of challengers that are no better than their
    champions, at most half of `level` are promoted.

    Args:
        challenger: per-example values (N,); higher is better.
        champion: of the same examples in the same order.
        metric: name of the metric, for the reason.
        level: p has to be below it, in (0, 1).
        seed: of the test's random flips.
        resamples: of the bootstrap.

    Raises:
        ValueError: the values are not of the same examples.
    """
    from stockpot.statistics.comparisons import compare
    from stockpot.statistics.intervals import Intervals

    compared = compare(challenger, champion, Intervals(resamples, 1 - level, seed))
    return Verdict(
        is_promoted=compared.p < level and compared.difference > 0,
        reason=_reason(compared, metric, level),
        metric=metric,
        challenger=float(challenger.mean()),
        champion=float(champion.mean()),
        comparison=asdict(compared),
    )


def _reason(compared: Comparison, metric: str, level: float) -> str:
    if compared.won == compared.lost == 0:
        return f"The challenger equals the champion on all {compared.n} examples."
    figures = (
        f"better on {compared.won} and worse on {compared.lost} of {compared.n} examples "
        f"({metric} {compared.difference:+.4f}, p = {compared.p:.2g})"
    )
    if compared.p >= level:
        return f"The challenger is {figures}: this may be chance, as p is not below {level:g}."
    side = "beats" if compared.difference > 0 else "loses to"
    return f"The challenger {side} the champion: {figures}, below the level {level:g}."


def _values(challenger: Challenger, checkpoint: Checkpoint, device: str) -> Floats:
    """Return per-example values (N,) of the first metric on test."""
    from stockpot.judging.test_sets import cached_values, predict_on_sets

    try:
        predict_on_sets(challenger.root, challenger.workload, checkpoint, device, ("test",))
    except InputError as error:
        raise InputError(
            f"promote: neither predictions nor weights of the model with digest "
            f"{checkpoint.digest} are here ({error}); get the weights with `dvc pull`, or restore "
            "an earlier champion with `stockpot promote --rollback`"
        ) from error
    return cached_values(challenger.root, challenger.workload, checkpoint.digest, "test")
