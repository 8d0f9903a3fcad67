"""Judging models on test: their predictions, then all metrics at once."""

from __future__ import annotations

from typing import Any

from stockpot.experiment.jobs.judging import (
    judge_models,
    measure_baseline,
    measure_cost,
    predict_model,
)
from stockpot.judging.job import BaselineJob, CostJob, JudgingJob, PredictionJob
from stockpot.tracking import ModelRecord
from tasks.session import current_session
from tasks.task_kinds import local_task, worker_task


@worker_task("predict", "predict-{job.name}")
def predict(job: PredictionJob) -> None:
    """Compute a model's outputs on val, test and every shift, but for those that are kept."""
    current_session().workers.run(predict_model, job)


@worker_task("measure", "measure-{job.name}")
def measure(job: BaselineJob) -> None:
    """Measure a baseline of the judgement, unless that is kept already."""
    current_session().workers.run(measure_baseline, job)


@local_task("time-a-prediction")
def time_a_prediction() -> None:
    """Measure how long a prediction takes, while nothing else is at work."""
    session = current_session()
    session.workers.run(measure_cost, CostJob(session.root, session.plan.workload))


@worker_task("judge")
def judge(job: JudgingJob) -> dict[str, Any]:
    """Compute every metric with its interval from the kept predictions."""
    return current_session().workers.run(judge_models, job)


@local_task("log-metrics")
def log_metrics(evaluation: dict[str, Any]) -> None:
    """Add the test metrics to the MLflow run of each model, which ensembles get here."""
    session = current_session()
    keys = {m["name"]: m["key"] for m in evaluation["models"] if m["kind"] == "ingredient"}
    made_of = {
        "ensemble": tuple(keys.values()),
        "repeats": (keys[evaluation["best_ingredient"]],),
    }
    _, _, *judged = session.plan.workload.set_names
    datasets = [session.dataset(name) for name in judged]
    for model in evaluation["models"]:
        kind = model["kind"]
        if kind in made_of:
            record = ModelRecord(model["name"], kind, model["key"], inputs=made_of[kind])
            session.tracker.log_model(record)
        session.tracker.log_metrics(model["key"], model["metrics"], datasets)
