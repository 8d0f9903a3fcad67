"""The whole experiment as a deployment runs it."""

from __future__ import annotations

from prefect import flow

from flows.deployed.settings import ExperimentSettings
from flows.experiment import run_all_stages
from tasks.deployed_runs import deployed_session


@flow(name="experiment")
def run_deployed_experiment(settings: ExperimentSettings = ExperimentSettings()) -> None:  # noqa: B008
    """Run every stage that is not up to date, as `stockpot run` does.

    Args:
        settings: what this run changes in the params file.
    """
    with deployed_session(settings) as session:
        run_all_stages(session, settings.params, session.overrides)
