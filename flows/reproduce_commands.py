"""The command that rebuilds recorded models; it needs no Prefect server."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Params
from flows.terminal import OUT
from stockpot.errors import InputError

if TYPE_CHECKING:
    from stockpot.experiment.plan import Plan
    from stockpot.experiment.reproduction import Reproduction
    from stockpot.tracking.tracker import Tracker


def reproduce(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="An MLflow run id or its start, or a model's name.",
        ),
    ],
    params: Params = None,
) -> None:
    """Rebuild recorded models and compare digests and scores with the record.

    In a temporary folder, a base or an ingredient is trained again, and a soup is merged again
    from its recorded ingredients and coefficients. The exit code is 1 if a model differs.

    stockpot reproduce greedy ingredient-03
    """
    from stockpot.experiment.opening import make_plan, open_tracker

    plan = make_plan(params, [])
    tracker = open_tracker(plan)
    run_ids = [_run_id(plan, tracker, run) for run in runs]
    made = [_reproduce(plan, tracker, run_id) for run_id in run_ids]
    if not all(reproduction.is_same for reproduction in made):
        raise typer.Exit(1)


def _run_id(plan: Plan, tracker: Tracker, run: str) -> str:
    """Return the run id of a model of this project; return anything else unchanged."""
    from stockpot.experiment.stages import STAGES
    from stockpot.storage.manifests import existing_manifests, made_models

    manifests = existing_manifests(plan.project.root, STAGES)
    made = [model for manifest in manifests for model in made_models(manifest)]
    keys = {model.name: model.key for model in reversed(made)}  # of one name, the ingredient
    if run not in keys:
        return run
    run_id = tracker.run_id(keys[run])
    if run_id is None:
        raise InputError(f"model {run!r}: has no run in the tracking store; run `stockpot run`")
    return run_id


def _reproduce(plan: Plan, tracker: Tracker, run_id: str) -> Reproduction:
    from stockpot.experiment.opening import run_tags
    from stockpot.experiment.reproduction import compare, read_provenance, rebuild, scored_sets
    from stockpot.tracking.recorded import read_recorded_run
    from stockpot.workers import WorkerPool, choose_devices

    run = read_recorded_run(tracker.store, run_id)
    provenance = read_provenance(run)
    devices = choose_devices(plan.experiment.run.devices, 1)
    with (
        closing(WorkerPool(devices, provenance.threads)) as pool,
        tempfile.TemporaryDirectory(dir=plan.project.state) as place,
    ):
        again = pool.run(rebuild, provenance, plan.project.root, Path(place), scored_sets(run))
    reproduction = compare(run, provenance, again, run_tags(plan, devices))
    _show(reproduction)
    return reproduction


def _show(reproduction: Reproduction) -> None:
    then, now = reproduction.digests
    end = "the same" if reproduction.is_same else "differs"
    lines = [f"{reproduction.name} (run {reproduction.run_id}): {end}"]
    lines += [f"  digest {then}" + ("" if then == now else f", rebuilt {now}")]
    for name, (recorded, again) in reproduction.scores.items():
        lines.append(f"  {name} {recorded:.6f}, rebuilt {again:.6f}")
    if not reproduction.is_same:
        changes = reproduction.changes or ("nothing that was recorded",)
        lines += ["  Changes since then:", *(f"  - {change}" for change in changes)]
    for line in lines:
        OUT.print(line, soft_wrap=True)
