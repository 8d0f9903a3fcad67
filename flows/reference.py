"""The reference of a sweep: fine-tunings, and the soup that the ingredients are held near."""

from __future__ import annotations

from typing import Any

from stockpot.experiment.reference import (
    Reference,
    made_reference,
    reference_jobs,
    reference_soup_job,
)
from tasks.fan_out import all_results, side_by_side
from tasks.models import merge_soup
from tasks.session import Session
from tasks.training import train_model


def make_reference(session: Session) -> Reference | None:
    """Train the fine-tunings of `sweep.reference` and merge them; None if there is none."""
    jobs = reference_jobs(session.plan)
    if not jobs:
        return None
    fine_tune = train_model.with_options(retries=session.plan.experiment.sweep.retries)
    made = all_results(side_by_side(fine_tune, jobs, "reference"))

    soup_job = reference_soup_job(session.plan, made)
    [soup] = all_results(side_by_side(merge_soup, [soup_job], "its soup"))
    return made_reference(session.plan, made, soup)


def recorded(reference: Reference | None) -> dict[str, list[dict[str, Any]]]:
    """Return the entry of a reference in the sweep's manifest."""
    return {"reference": [model.to_json() for model in reference.models]} if reference else {}
