"""Models made by jobs in this process."""

from __future__ import annotations

from collections.abc import Callable

from stockpot.experiment.jobs.job import ModelJob, make_model
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.plan import Plan
from stockpot.storage.models import Model


def made(job: ModelJob) -> Model:
    """Make the model of a job on the CPU; it must succeed."""
    model = make_model(job, "cpu")
    assert isinstance(model, Model)
    return model


def soup_job(make_plan: Callable[..., Plan], soup: str) -> SoupJob:
    """Return the job of a soup, given by its fields in params.yaml."""
    return make_plan(f"soups=[{{name: s, {soup}}}]").soup_jobs()[0]
