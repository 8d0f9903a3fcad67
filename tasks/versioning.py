"""Handing a finished stage's outputs to DVC."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from stockpot.storage.dvc import adopt_outputs
from tasks.session import current_session


@task(name="adopt", task_run_name="adopt-{stage}", cache_policy=NO_CACHE)
def adopt(stage: str) -> None:
    """Record a stage's outputs in dvc.lock, if params.yaml is what was run."""
    session = current_session()
    if session.adopts and (objection := adopt_outputs(session.root, [stage])):
        get_run_logger().warning(objection)
        session.console.print(f"[yellow]{objection}")
