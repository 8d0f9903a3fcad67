"""Evaluate the champion in a worker process, and record the result."""

from __future__ import annotations

from contextlib import closing

from prefect.logging import get_run_logger

from stockpot.experiment.champion import (
    ChampionJob,
    champion_job,
    evaluate_champion,
    record_champion,
)
from stockpot.experiment.opening import open_tracker, run_tags
from stockpot.experiment.plan import Plan
from stockpot.workers import WorkerPool, choose_devices
from tasks.task_kinds import worker_task


@worker_task("evaluate-champion")
def evaluate_present_champion(plan: Plan) -> tuple[ChampionJob, dict[str, float]]:
    """Evaluate the champion; return the job and all metrics by name."""
    run = plan.experiment.run
    devices = choose_devices(run.devices, run.workers)[:1]
    with closing(WorkerPool(devices, run.threads)) as workers:
        tracker = open_tracker(plan, tags=run_tags(plan, devices))
        job = champion_job(plan, tracker)
        metrics = workers.run(evaluate_champion, job)
        get_run_logger().info(record_champion(job, metrics, tracker))
    return job, metrics
