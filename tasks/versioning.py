"""Handing a finished stage's outputs to DVC."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from stockpot.versioning import adopt_outputs
from tasks.session import current_session


@task(name="adopt", task_run_name="adopt-{stage}", cache_policy=NO_CACHE)
def adopt(stage: str) -> str:
    """Record a stage's outputs in dvc.lock; return why not, where they are not recorded."""
    session = current_session()
    if not session.adopts:
        return "run with other parameters than params.yaml holds"
    return adopt_outputs(session.root, [stage])
