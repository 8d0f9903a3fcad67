"""The champion, evaluated on the data of today."""

from __future__ import annotations

from prefect import flow

from flows.deployed.settings import ChampionSettings
from stockpot.experiment.champion import require_at_least
from tasks.champion import evaluate_present_champion
from tasks.deployed_runs import deployed_run


@flow(name="evaluate-champion")
def evaluate_deployed_champion(settings: ChampionSettings = ChampionSettings()) -> None:  # noqa: B008
    """Score the champion of MLflow's registry on test and the test shifts as they are now.

    Args:
        settings: the data, and the score below which the run fails.
    """
    with deployed_run(settings, "champion") as plan:
        job, metrics = evaluate_present_champion(plan)
        require_at_least(job, metrics, settings.at_least)
