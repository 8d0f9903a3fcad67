"""The job that checks ingredients before they are merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stockpot.diagnostics.precheck.check import Check
from stockpot.errors import StageFailed
from stockpot.experiment.jobs.job import ExperimentJob
from stockpot.plugins import Registry
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.diagnostics.precheck.checks import Candidates
    from stockpot.merging.states import State
    from stockpot.workloads.protocol import Task

_FEW = 3  # examples: a fall by at most so many always passes
_APART = {"start", "path", "score"}  # checks that nets with another order of units may fail

# By name, not imported: only imported ingredients may need an alignment.
TRIALS: Registry[Any] = Registry(
    "trial", {"alignment": "stockpot.soups.alignment.trial:try_alignment"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecheckJob(ExperimentJob):
    """The check of all ingredients of a sweep.

    Attributes:
        base: the model that the ingredients were fine-tuned from, with val scores.
        ingredients: with val scores.
        max_barrier: the largest fall of the metric half-way to the mean of the others.
        delta: the probability of a false alarm about the data, and of a wrong error bound.
        on_fail: whether to exclude ingredients that fail, stop the stage, or only warn.
    """

    base: Model
    ingredients: tuple[Model, ...]
    max_barrier: float
    delta: float
    on_fail: Literal["exclude", "stop", "warn"]


def check_ingredients(job: PrecheckJob, device: str) -> dict[str, Any]:
    """Check the ingredients of a job; runs in a worker process.

    Returns:
        The sweep's manifest entry: `checks`, one per row; `failed`, the ingredients that failed
        with their reasons; `excluded`, those that no soup may use; `certificate`, the error bound
        of the mean of all others; `proposal`, if imported ingredients failed that could be aligned.
    """
    from stockpot.diagnostics.precheck.checks import Candidates, run_checks
    from stockpot.diagnostics.states import finished_mean
    from stockpot.soups.preparation.finishing import Finishing
    from stockpot.storage.checkpoints import load_tensors, verify

    base = load_tensors(verify(job.root, job.base.checkpoint))
    states = {m.name: load_tensors(verify(job.root, m.checkpoint)) for m in job.ingredients}
    aligned = [*states.values()] if any(m.is_aligned for m in job.ingredients) else ()
    candidates = Candidates(
        states=states,
        scores={model.name: model.scores[job.metric] for model in job.ingredients},
        order=[job.ingredients[place].name for place in rank(job.ingredients, job.metric)],
        base=base,
        base_score=job.base.scores[job.metric],
        mean=finished_mean(Finishing(job.workload.build(), device, aligned)),
    )
    values = _values(job, device)
    limit = largest_fall(job.max_barrier, values(base), job.workload.build().task)
    checks, bound = run_checks(candidates, values, limit, job.delta)
    failed = _reasons(checks)
    result = {
        "checks": [check.to_json() for check in (*checks, _check_data(job))],
        "failed": failed,
        "excluded": failed if job.on_fail == "exclude" else [],
        "certificate": bound,
    }
    proposal = _proposal(job, candidates, checks, values, device)
    return result | ({"proposal": proposal} if proposal else {})


def _proposal(
    job: PrecheckJob,
    candidates: Candidates,
    checks: Sequence[Check],
    values: Callable[[State], Tensor],
    device: str,
) -> dict[str, Any] | None:
    """Return what aligning the imported ingredients would gain; None if there is nothing to gain.

    Tried are the first imported ingredient and one that does not belong to it.
    """
    failed = {
        model.name: {c.name for c in checks if c.ingredient == model.name and not c.passed}
        for model in job.ingredients
        if "imported" in model.details and not model.is_aligned
    }
    imported = [name for name, names in failed.items() if names <= _APART]
    suspects = [name for name in imported if failed[name]]
    if not suspects or len(imported) < 2:
        return None
    first = imported[0]
    other = next((name for name in suspects if name != first), imported[1])
    pair = (candidates.states[first], candidates.states[other])
    before = float(values(candidates.mean(pair)).mean())
    trial = TRIALS["alignment"](job.workload.build(), pair, before, values, device)
    if trial is None:
        return None
    advice = (
        f"the units of imported models may be in other orders: set sweep.align: {trial['align']}"
    )
    if len(failed) < len(job.ingredients):
        advice += " and sweep.size: 0, since only imported models can be aligned"
    if trial["after"] is not None:
        scores = f"{trial['after']:.4g} on val instead of {before:.4g}"
        advice += f"; the soup of {first} and {other} then scores {scores}"
    return {"pair": [first, other], "advice": advice, **trial}


def largest_fall(max_barrier: float, base_values: Tensor, task: Task) -> float:
    """Return the largest fall of the metric that passes.

    Args:
        max_barrier: in units of the metric for classification, else relative to the base's score.
        base_values: the metric of the base on each example of val; (N,).
        task: of the workload.
    """
    scale = 1.0 if task == "classification" else abs(float(base_values.mean()))
    return max(max_barrier, _FEW / len(base_values)) * scale


def require_enough(
    job: PrecheckJob, result: Mapping[str, Any], min_ingredients: int
) -> dict[str, Any]:
    """Return the result of the check if the experiment can continue with it.

    Raises:
        StageFailed: a check failed and `on_fail` is stop, or too few ingredients are left.
    """
    failed = result["failed"]
    reasons = "".join(f"\n  {entry['name']}: {entry['reason']}" for entry in failed)
    if "proposal" in result:
        reasons += f"\n  {result['proposal']['advice']}"
    wrong = [check["detail"] for check in result["checks"] if not check["passed"]]
    if job.on_fail == "stop" and wrong:
        found = reasons or f"\n  val: {wrong[0]}"  # the check of the data is of no ingredient
        raise StageFailed(
            "precheck: all checks must pass (sweep.precheck.on_fail is stop), but "
            f"{len(wrong)} failed{found}"
        )
    left = len(job.ingredients) - len(result["excluded"])
    if left < min_ingredients:
        raise StageFailed(
            f"precheck: {left} of {len(job.ingredients)} ingredients can be merged, "
            f"sweep.min_ingredients is {min_ingredients}; to merge all of them, set "
            f"sweep.precheck.on_fail to warn{reasons}"
        )
    return dict(result)


def _values(job: PrecheckJob, device: str) -> Callable[[State], Tensor]:
    """Return the function from a state on the CPU to the metric of each example of val."""
    from stockpot.scoring.cached_passes import CachedPasses
    from stockpot.scoring.val_scores import ValScorer

    passes = CachedPasses(job.root, job.workload, device)
    scorer = ValScorer(job.workload.build(), device, passes)
    return lambda state: scorer.val_values({n: tensor.to(device) for n, tensor in state.items()})


def _check_data(job: PrecheckJob) -> Check:
    """Check that val and train are drawn from one distribution."""
    from stockpot.diagnostics.precheck.samples import check_samples
    from stockpot.seeding import seeded_generator

    workload = job.workload.build()
    train, val = workload.dataset("train"), workload.dataset("val")
    generator = seeded_generator(job.seed, "precheck")
    return check_samples(train, val, workload.task, job.delta, generator)


def _reasons(checks: Sequence[Check]) -> list[dict[str, str]]:
    """Return each ingredient that failed with its reason, one clause per check."""
    reasons: dict[str, list[str]] = {}
    for check in checks:
        if not check.passed:
            reasons.setdefault(str(check.ingredient), []).append(check.detail)
    return [{"name": name, "reason": "; ".join(clauses)} for name, clauses in reasons.items()]
