"""Making soups and tuned soups."""

from __future__ import annotations

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.storage.models import Model
from tasks.making import make_in_worker
from tasks.retries import worker_was_lost


@task(
    name="make-soup",
    task_run_name="soup-{job.name}",
    retries=1,
    retry_delay_seconds=1,
    retry_condition_fn=worker_was_lost,
    cache_policy=NO_CACHE,
)
def merge_soup(job: SoupJob) -> Model | State[Model]:
    """Choose ingredients on val and merge them; the store may have the soup already."""
    return make_in_worker(job)


@task(
    name="tune",
    task_run_name="tune-{job.name}",
    retries=1,
    retry_delay_seconds=1,
    retry_condition_fn=worker_was_lost,
    cache_policy=NO_CACHE,
)
def tune_soup(job: TuningJob) -> Model | State[Model]:
    """Search merge coefficients on val; the store may have the soup already."""
    return make_in_worker(job)
