"""The soups: merges of ingredients that are selected on val."""

from __future__ import annotations

from flows.stage import stage
from tasks.fan_out import all_results, side_by_side
from tasks.models import merge_soup
from tasks.outputs import record_stage
from tasks.session import Session


@stage("soups")
def make_soups(session: Session) -> None:
    """Merge one soup per recipe; ingredients are selected on val only."""
    soups = all_results(side_by_side(merge_soup, session.plan.soup_jobs(), "soups"))

    record_stage("soups", {"soups": [soup.to_json() for soup in soups]})
