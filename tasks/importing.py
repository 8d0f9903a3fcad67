"""Import checkpoints that were trained elsewhere: check headers first, then copy weights."""

from __future__ import annotations

from typing import Literal

from prefect import State

from stockpot.experiment.jobs.aligning import check_alignment
from stockpot.experiment.jobs.importing import Headers, ImportJob, check_headers
from stockpot.storage.models import Model
from tasks.fan_out import side_by_side
from tasks.models import ModelFailed, make_in_worker
from tasks.session import current_session
from tasks.task_kinds import worker_task

Stage = Literal["base", "sweep"]


@worker_task("check-headers", "check-headers-{stage}")
def check_imports(stage: Stage) -> Headers:
    """Compare headers of a stage's imports with the workload's model; no weights are read.

    Raises:
        InputError: some do not fit the model, and `on_foreign` is stop; or they are to be aligned,
            and the model's nets cannot be.
    """
    session = current_session()
    imports, by = session.plan.imports[stage], session.plan.experiment.sweep.align
    if not imports.patterns:
        return Headers("", ())
    headers = session.workers.run(check_headers, imports.workload, imports.sources)
    imports.refuse(headers.problems)
    if stage == "sweep" and by is not None:
        session.workers.run(check_alignment, imports.workload, by)
    return headers


@worker_task("import", "import-{job.name}")
def import_model(job: ImportJob) -> Model | State[Model]:
    """Copy one checkpoint into the store in a worker process, unless the store has it."""
    return make_in_worker(job)


def import_checkpoints(stage: Stage) -> tuple[list[ImportJob], list[Model | Exception]]:
    """Import the checkpoints of a stage; return the jobs and their outcomes.

    Raises:
        InputError: some cannot be used, and `on_foreign` is stop.
    """
    imports = current_session().plan.imports[stage]
    headers = check_imports(stage)
    if not headers.problems:
        return [], []
    start = None if stage == "base" else current_session().plan.base().checkpoint
    jobs = imports.jobs(headers, start)
    outcomes = side_by_side(import_model, jobs, "imports")
    made = zip(jobs, outcomes, strict=True)
    imports.refuse(
        [str(end) if isinstance(end, ModelFailed) and not job.twin else "" for job, end in made]
    )
    return jobs, outcomes
