"""Score models on test: predictions of each model, then all metrics at once."""

from __future__ import annotations

from typing import Any

from stockpot.experiment.jobs.judging import (
    judge_models,
    measure_baseline,
    measure_cost,
    predict_model,
)
from stockpot.judging.job import BaselineJob, EvaluationJob, JudgingJob, PredictionJob
from stockpot.tracking.records import ModelRecord
from tasks.session import current_session
from tasks.task_kinds import local_task, worker_task


@worker_task("predict", "predict-{job.name}")
def predict(job: PredictionJob) -> None:
    """Compute a model's outputs on val, test and every shift, unless they are cached."""
    current_session().workers.run(predict_model, job)


@worker_task("measure", "measure-{job.name}")
def measure(job: BaselineJob) -> None:
    """Measure a baseline of the evaluation, unless it is cached."""
    current_session().workers.run(measure_baseline, job)


@local_task("time-a-prediction")
def time_a_prediction() -> None:
    """Measure the latency of a prediction while nothing else runs."""
    session = current_session()
    session.workers.run(measure_cost, EvaluationJob(session.root, session.plan.workload))


@worker_task("judge")
def judge(job: JudgingJob) -> dict[str, Any]:
    """Compute every metric with its interval from the cached predictions."""
    return current_session().workers.run(judge_models, job)


@local_task("log-metrics")
def log_metrics(evaluation: dict[str, Any]) -> None:
    """Log test metrics to the MLflow run of each model; ensembles get their runs here."""
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
