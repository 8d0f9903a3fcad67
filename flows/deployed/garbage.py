"""The collection of garbage, as a deployment runs it."""

from __future__ import annotations

from prefect import flow

from flows.deployed.settings import GarbageSettings
from tasks.deployed_runs import deployed_run
from tasks.garbage import collect_garbage


@flow(name="collect-garbage")
def collect_deployed_garbage(settings: GarbageSettings = GarbageSettings()) -> None:  # noqa: B008
    """Delete checkpoints that no manifest refers to, as `stockpot gc --yes` does.

    Args:
        settings: whether to delete anything.
    """
    with deployed_run(settings, "garbage") as plan:
        collect_garbage(plan.project, dry_run=settings.dry_run)
