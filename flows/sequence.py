"""The command that learns tasks one after another; it needs no Prefect server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from flows.options import Overrides
from flows.terminal import ERR, OUT

if TYPE_CHECKING:
    from stockpot.experiment.jobs.job import ModelJob
    from stockpot.experiment.plan import Plan
    from stockpot.storage.models import Model
    from stockpot.tracking.tracker import Tracker
    from stockpot.workers import WorkerPool


def sequence(
    tasks: Annotated[
        list[str],
        typer.Argument(
            metavar="PARAMS PARAMS...", help="A params file per task, all in one folder."
        ),
    ],
    overrides: Overrides = None,
) -> None:
    """Learn tasks one after another, and report what is forgotten and what transfers.

    The base is that of the first file. Each task is the workload of its file, learned with the
    first point of its sweep from the model of the task before. With an anchor and an average along
    the run this is ZSCL. Finished tasks are reused, and a killed one is continued. All models are
    scored on test of all tasks; the result is in results/sequence.json.

    stockpot sequence first.yaml second.yaml --set sweep.space.anchor=base
    """
    from stockpot.experiment.opening import hold_run_lock, make_plan
    from stockpot.experiment.sequence import MANIFEST, check_sequence
    from stockpot.storage.manifests import write_manifest
    from stockpot.workers import WorkerPool, choose_devices

    plans = [make_plan(task, overrides or []) for task in tasks]
    check_sequence(plans)
    first = plans[0]
    run = first.experiment.run
    with (
        hold_run_lock(first.project, ERR),
        closing(WorkerPool(choose_devices(run.devices, 1), run.threads)) as workers,
    ):
        manifest = _learn(plans, workers)
        write_manifest(first.project.root, MANIFEST, manifest)
    _show(manifest)


def _learn(plans: Sequence[Plan], workers: WorkerPool) -> dict[str, Any]:
    """Learn the tasks, score all models on all tasks, and record both; return the manifest."""
    from stockpot.experiment.jobs.job import make_model
    from stockpot.experiment.opening import open_tracker, run_tags
    from stockpot.experiment.sequence import learn, made_or_failed, sequence_manifest, test_scores
    from stockpot.tracking.sequences import log_sequence, sequence_run

    first = plans[0]
    tags = run_tags(first, workers.devices)
    tracker = open_tracker(first, offline=first.experiment.track.offline, tags=tags)

    def make(job: ModelJob, plan: Plan) -> Model:
        made = made_or_failed(job, workers.run(make_model, job))
        _record(tracker, job, plan, made)
        return made

    with sequence_run(tracker, [plan.project.params_file.name for plan in plans]):
        models = learn(plans, make)
        workloads = [plan.workload for plan in plans]
        scores = [
            workers.run(test_scores, first.project.root, workloads, model.checkpoint)
            for model in models
        ]
        manifest = sequence_manifest(plans, models, scores)
        log_sequence(tracker, manifest)
    return manifest


def _record(tracker: Tracker, job: ModelJob, plan: Plan, made: Model) -> None:
    from stockpot.tracking.recorded import PROVENANCE
    from stockpot.tracking.sequences import record_of_task

    files = {PROVENANCE: job.provenance(made).to_text()}
    trained_on = "pretrain" if made.kind == "base" else "train"
    digests = {name: plan.workload.set_digest(name) for name in (trained_on, "val")}
    entry, name = made.to_json(), plan.workload.name
    record = record_of_task(entry, job.parents, workload=name, sets=digests, files=files)
    tracker.log_model(record)


def _show(manifest: Mapping[str, Any]) -> None:
    """Print the scores of each model on each task, and what is kept."""
    names = [task["params"] for task in manifest["tasks"]]
    table = Table("model", *(f"{manifest['metric']} on {name}" for name in names), box=None)
    rows = ["base", *(f"after {name}" for name in names)]
    for name, scores in zip(rows, manifest["scores"], strict=True):
        table.add_row(name, *(f"{score:.3f}" for score in scores))
    OUT.print(table)
    kept = manifest["kept"]
    OUT.print(
        f"\nOn tasks not learned yet: {kept['transfer']:.3f} (the base {kept['base_transfer']:.3f})"
        f"; forgotten: {kept['forgetting']:.3f}; on all tasks at the end: {kept['last']:.3f}"
    )
    OUT.print("Result: results/sequence.json")
