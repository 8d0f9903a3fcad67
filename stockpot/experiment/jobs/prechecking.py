"""The check of ingredients before they are merged, as a job for a worker process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stockpot.diagnostics.precheck.check import Check
from stockpot.errors import StageFailed
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.workloads.protocol import Task

    State = Mapping[str, Tensor]

OnFail = Literal["exclude", "stop", "warn"]

_FEW = 3  # examples: a fall by so many or fewer is chance


@dataclass(frozen=True, slots=True)
class PrecheckJob:
    """The check of all ingredients of a sweep, as plain values.

    Attributes:
        root: the project root.
        workload: whose train and val are opened.
        seed: of what is drawn.
        base: what the ingredients were fine-tuned from, with val scores.
        ingredients: with val scores.
        metric: the val score that choices use, by its name in the scores.
        max_barrier: the largest fall of the metric half-way to the mean of the others.
        delta: the probability of a false alarm about the data, and of a wrong certificate.
        on_fail: what becomes of an ingredient that does not pass.
    """

    root: Path
    workload: WorkloadSpec
    seed: int
    base: Model
    ingredients: tuple[Model, ...]
    metric: str
    max_barrier: float
    delta: float
    on_fail: OnFail


def check_ingredients(job: PrecheckJob, device: str) -> dict[str, Any]:
    """Check the ingredients of a job; runs in a worker process.

    Returns:
        What stands in the sweep's manifest: `checks`, one a row; `failed`, the ingredients that did
        not pass and why; `excluded`, those of them that no soup may use; `certificate`, a bound on
        the error of the mean of all others.
    """
    from stockpot.diagnostics.precheck.checks import Candidates, examine
    from stockpot.storage.checkpoints import load_tensors, verify

    base, *states = [
        load_tensors(verify(job.root, model.checkpoint)) for model in (job.base, *job.ingredients)
    ]
    candidates = Candidates(
        names=[model.name for model in job.ingredients],
        states=states,
        scores=[model.scores[job.metric] for model in job.ingredients],
        order=rank(job.ingredients, job.metric),
        base=base,
        base_score=job.base.scores[job.metric],
    )
    values = _values(job.workload, device)
    limit = largest_fall(job.max_barrier, values(base), job.workload.build().task)
    checks, certificate = examine(candidates, values, limit, job.delta)
    failed = _reasons(checks)
    return {
        "checks": [check.to_json() for check in (*checks, _check_data(job))],
        "failed": failed,
        "excluded": failed if job.on_fail == "exclude" else [],
        "certificate": certificate,
    }


def largest_fall(max_barrier: float, base_values: Tensor, task: Task) -> float:
    """Return the fall of the metric that passes.

    Args:
        max_barrier: in units of the metric for classification, else of the base's score.
        base_values: the metric of the base, for each example of val; (N,).
        task: of the workload.
    """
    scale = 1.0 if task == "classification" else abs(float(base_values.mean()))
    return max(max_barrier, _FEW / len(base_values)) * scale


def settle(job: PrecheckJob, result: Mapping[str, Any], min_ingredients: int) -> dict[str, Any]:
    """Return what the check came to, if the experiment can go on with it.

    Raises:
        StageFailed: something did not pass and that is to stop, or too little is left.
    """
    failed = result["failed"]
    reasons = "".join(f"\n  {entry['name']}: {entry['reason']}" for entry in failed)
    data = [check["detail"] for check in result["checks"] if not check["ingredient"]]
    wrong = [check["detail"] for check in result["checks"] if not check["passed"]]
    if job.on_fail == "stop" and wrong:
        found = reasons or f"\n  val: {data[0]}"
        raise StageFailed(
            "precheck: all checks must pass (sweep.precheck.on_fail is stop), got "
            f"{len(wrong)} that did not{found}"
        )
    left = len(job.ingredients) - len(result["excluded"])
    if left < min_ingredients:
        raise StageFailed(
            f"precheck: {left} of {len(job.ingredients)} ingredients can be merged, "
            f"sweep.min_ingredients is {min_ingredients}; sweep.precheck.on_fail: warn merges them "
            f"all the same{reasons}"
        )
    return dict(result)


def _values(workload: WorkloadSpec, device: str) -> Callable[[State], Tensor]:
    """Return what tells the metric of each example of val for weights on the CPU."""
    from stockpot.scoring.val_scores import ValScorer

    scorer = ValScorer(workload.build(), device)
    return lambda state: scorer.val_values({n: tensor.to(device) for n, tensor in state.items()})


def _check_data(job: PrecheckJob) -> Check:
    """Check that val is drawn as train is; no ingredient is to blame where it is not."""
    from stockpot.diagnostics.precheck.samples import check_samples
    from stockpot.seeding import seeded_generator

    workload = job.workload.build()
    train, val = workload.dataset("train"), workload.dataset("val")
    generator = seeded_generator(job.seed, "precheck")
    return check_samples(train, val, workload.task, job.delta, generator)


def _reasons(checks: Sequence[Check]) -> list[dict[str, str]]:
    """Say of each ingredient that did not pass why, in one clause a check."""
    reasons: dict[str, list[str]] = {}
    for check in checks:
        if not check.passed:
            reasons.setdefault(str(check.ingredient), []).append(check.detail)
    return [{"name": name, "reason": "; ".join(said)} for name, said in reasons.items()]
