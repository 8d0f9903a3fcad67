"""The soups: ingredients chosen on val and merged."""

from __future__ import annotations

from flows.stage import stage
from tasks.fan_out import all_results, side_by_side
from tasks.making import merge_soup
from tasks.outputs import record_stage
from tasks.session import Session


@stage("soups")
def make_soups(session: Session) -> None:
    """Merge one soup a recipe from the ingredients, choosing on val alone."""
    soups = all_results(side_by_side(merge_soup, session.plan.soup_jobs(), "soups"))

    record_stage("soups", {"soups": [soup.to_json() for soup in soups]})
