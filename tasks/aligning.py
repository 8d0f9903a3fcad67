"""Align imported ingredients to the first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import State

from stockpot.experiment.jobs.aligning import AlignJob, align_jobs
from stockpot.experiment.jobs.importing import ImportJob
from stockpot.storage.models import Model
from tasks.fan_out import side_by_side
from tasks.models import make_in_worker
from tasks.session import current_session
from tasks.task_kinds import worker_task


@worker_task("align", "align-{job.name}")
def align_model(job: AlignJob) -> Model | State[Model]:
    """Permute the units of one ingredient in a worker process, unless the store has the result."""
    return make_in_worker(job)


def align_to_first(
    imports: Sequence[ImportJob], imported: Sequence[Model | Exception]
) -> tuple[list[ImportJob | AlignJob], list[Model | Exception], dict[str, list[dict[str, Any]]]]:
    """Align imported ingredients to the first one, if the experiment has `sweep.align`.

    Args:
        imports: the jobs that imported them.
        imported: their outcomes.

    Returns:
        The jobs that made the ingredients and their outcomes, in the same order; and an entry of
        the sweep's manifest: the ingredients as they were imported.
    """
    session = current_session()
    by, models = session.plan.experiment.sweep.align, [m for m in imported if isinstance(m, Model)]
    if by is None or len(models) < 2:
        return [*imports], [*imported], {}
    jobs = {job.name: job for job in align_jobs(session.root, session.plan.workload, by, models)}
    ends = side_by_side(align_model, [*jobs.values()], "alignment")
    aligned = dict(zip(jobs, ends, strict=True))
    return (
        [jobs.get(job.name, job) for job in imports],
        [aligned.get(job.name, end) for job, end in zip(imports, imported, strict=True)],
        {"imported": [model.to_json() for model in models[1:]]},
    )
