"""The check of ingredients before any of them is merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from stockpot.experiment.jobs.prechecking import check_ingredients, settle
from stockpot.storage.models import Model
from tasks.retries import worker_was_lost
from tasks.session import current_session


@task(
    name="check-before-merging",
    retries=1,
    retry_delay_seconds=1,
    retry_condition_fn=worker_was_lost,
    cache_policy=NO_CACHE,
)
def check_before_merging(ingredients: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Check the ingredients of a sweep, as its manifest holds them; return what it holds of that.

    Raises:
        StageFailed: something did not pass and that is to stop, or too few can be merged.
    """
    session = current_session()
    job = session.plan.precheck_job([Model.from_json(entry) for entry in ingredients])
    result = session.workers.run(check_ingredients, job)
    return settle(job, result, session.plan.experiment.sweep.min_ingredients)
