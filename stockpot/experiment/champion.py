"""The champion on the data of today: test and its shifts as the workload gives them now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError, StageFailed
from stockpot.experiment.plan import Plan
from stockpot.experiment.promotion import CHAMPION, registered_name, title_of, weights_of
from stockpot.storage.atomic_files import write_json
from stockpot.storage.checkpoints import Checkpoint
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from stockpot.tracking.tracker import Tracker

RESULT = "champion.json"


@dataclass(frozen=True, slots=True)
class ChampionJob:
    """The evaluation of a champion; sent to a worker process.

    Attributes:
        root: the project root.
        workload: its test split and test shifts are used.
        checkpoint: the champion's weights.
        title: its name and its version in the registry.
        users_metrics: further metrics, each as `module:name`.
        resamples: of the bootstrap, if an interval needs one.
        confidence: of the intervals, in (0, 1).
    """

    root: Path
    workload: WorkloadSpec
    checkpoint: Checkpoint
    title: str
    users_metrics: tuple[str, ...]
    resamples: int
    confidence: float


def champion_job(plan: Plan, tracker: Tracker) -> ChampionJob:
    """Return the evaluation of the present champion.

    Raises:
        InputError: there is no champion, or it was made for another workload.
        StageFailed: the registry does not answer.
    """
    name, evaluate = registered_name(plan), plan.experiment.evaluate
    champion = tracker.registry(name).alias(CHAMPION)
    if champion is None:
        raise InputError(
            f"champion: {name!r} has none in MLflow's registry; run `stockpot promote` first"
        )
    made_for = champion.tags["stockpot.workload"]
    if made_for != plan.workload.name:
        raise InputError(
            f"champion: that of {name!r} was made for workload {made_for!r}, got "
            f"{plan.workload.name!r}; name another model in promote.name"
        )
    return ChampionJob(
        root=plan.project.root,
        workload=plan.workload,
        checkpoint=weights_of(champion),
        title=title_of(champion),
        users_metrics=tuple(evaluate.metrics),
        resamples=evaluate.bootstrap,
        confidence=evaluate.confidence,
    )


def evaluate_champion(job: ChampionJob, device: str) -> dict[str, float]:
    """Return all metrics on test and its shifts; those on test have intervals.

    The names are those of the evaluation, e.g. `test/accuracy`, `test/accuracy_low` and
    `shift/noise/accuracy`. Runs in a worker process.

    Raises:
        InputError: predictions are not cached, and the weights are missing or damaged.
    """
    from stockpot.judging.scores import Scores, shown
    from stockpot.judging.test_sets import predict_on_sets, test_sets
    from stockpot.scoring.metrics.by_task import metrics_of
    from stockpot.scoring.predictions import load_outputs, load_targets
    from stockpot.scoring.shift_means import are_copies
    from stockpot.statistics.intervals import Intervals

    workload, scores = job.workload, Scores()
    metrics = metrics_of(workload.build(), job.users_metrics).values()
    sets = test_sets(workload)
    predict_on_sets(job.root, workload, job.checkpoint, device, sets)
    for name in sets:
        outputs = load_outputs(job.root, workload, job.checkpoint.digest, name)
        scores.add(shown(name), metrics, outputs, load_targets(job.root, workload, name))
    shifts = workload.test_shifts
    scores.add_means("shift", shifts, are_copies(workload, shifts))
    found = dict(scores.values)
    intervals = Intervals(job.resamples, job.confidence, workload.seed)
    for name, values in scores.per_example.items():
        if name.startswith("test/"):
            estimate = intervals.estimate(values)
            found |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return found


def record_champion(job: ChampionJob, metrics: dict[str, float], tracker: Tracker) -> str:
    """Write results/champion.json and a run in MLflow; return a sentence with the first metric.

    Args:
        job: the evaluation.
        metrics: its result.
        tracker: without an open run.
    """
    from stockpot.tracking.records import Dataset

    first = next(iter(job.workload.build().metrics))
    name, digest = f"test/{first}", job.workload.set_digest("test")
    content: dict[str, Any] = {
        "champion": job.title,
        "digest": job.checkpoint.digest,
        "test_set": digest,
        "metrics": metrics,
    }
    write_json(job.root / "results" / RESULT, content)
    tracker.start_parent(
        f"champion {job.title}",
        params={},
        tags={"stockpot.champion": job.checkpoint.digest},
        datasets=[Dataset(job.workload.name, digest, "test")],
    )
    with tracker.open_parent():
        tracker.log_parent_metrics(metrics)
    interval = f"{metrics[f'{name}_low']:.4f} to {metrics[f'{name}_high']:.4f}"
    return f"The champion {job.title} has {name} {metrics[name]:.4f} ({interval})."


def require_at_least(job: ChampionJob, metrics: dict[str, float], least: float | None) -> None:
    """Check the champion's first metric on test.

    Raises:
        StageFailed: it is below `least`.
    """
    name = f"test/{next(iter(job.workload.build().metrics))}"
    if least is not None and metrics[name] < least:
        raise StageFailed(
            f"the champion {job.title} has {name} {metrics[name]:.4f}, must be at least {least:g}; "
            "see whether the data has changed, train on it, or restore the previous champion with "
            "`stockpot promote --rollback`"
        )
