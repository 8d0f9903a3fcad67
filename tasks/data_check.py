"""The check of the workload's data, before anything is trained."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from stockpot.workloads.checks.before_training import check_data
from tasks.retries import worker_was_lost
from tasks.session import current_session


@task(
    name="check-data",
    retries=1,
    retry_delay_seconds=1,
    retry_condition_fn=worker_was_lost,
    cache_policy=NO_CACHE,
)
def check_data_first() -> None:
    """Refuse data that cannot be trained or chosen on.

    Raises:
        InputError: what is wrong with them, and what to change.
    """
    session = current_session()
    session.workers.run(check_data, session.plan.workload)
