"""The soups: ingredients chosen on val and merged."""

from __future__ import annotations

from prefect import State, flow
from prefect.states import Completed

from stockpot.experiment.state import is_done, require_before
from tasks.fan_out import all_results, side_by_side
from tasks.manifests import record_stage
from tasks.merging import merge_soup
from tasks.run_settings import flow_session


@flow(name="soups")
def make_soups(params: str | None = None, overrides: tuple[str, ...] = ()) -> State[None] | None:
    """Merge one soup a recipe from the ingredients, choosing on val alone."""
    with flow_session(params, overrides) as session:
        require_before(session.plan, "soups")
        if is_done(session.plan, "soups"):
            return Completed(name="Skipped", message="up to date")

        soups = all_results(side_by_side(merge_soup, session.plan.soup_jobs(), "soups"))

        record_stage("soups", {"soups": [soup.to_json() for soup in soups]})
    return None
