"""The promotion: the best soup is tested against the champion in MLflow's registry."""

from __future__ import annotations

from prefect import flow

from tasks.promoting import challenge_with_best_soup
from tasks.run_settings import flow_session


@flow(name="promote")
def promote_best_soup(params: str | None = None, overrides: tuple[str, ...] = ()) -> None:
    """Replace the champion only if the best soup on val wins the paired test on test."""
    with flow_session(params, overrides):
        challenge_with_best_soup()
