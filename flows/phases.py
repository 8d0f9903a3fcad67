"""The phases of a sweep: prune, retrain several times, average; again from the average."""

from __future__ import annotations

from stockpot.experiment.phases import Phases
from tasks.fan_out import all_results, side_by_side
from tasks.models import merge_soup
from tasks.session import Session
from tasks.training import models_of_phase, train_model


def finish_phases(session: Session) -> Phases:
    """Do all phases of `sweep.phases` but the last one, whose models are the ingredients."""
    phases = Phases(session.plan)
    fine_tune = train_model.with_options(retries=session.plan.experiment.sweep.retries)
    while jobs := phases.next_jobs():
        outcomes = side_by_side(fine_tune, jobs, phases.name)
        models, failed = models_of_phase(jobs, outcomes)

        average_job = phases.average_job(models)
        [average] = all_results(side_by_side(merge_soup, [average_job], "its average"))
        phases = phases.after(models, average, failed)
    return phases
