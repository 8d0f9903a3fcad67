"""Commands for models on disk; they need no project and no server."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table

from flows.options import Force
from flows.terminal import ERR, OUT, counted, show_next
from stockpot.errors import InputError, StageFailed

if TYPE_CHECKING:
    from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob
    from stockpot.disk_merging.job import MergeJob
    from stockpot.disk_merging.outputs_job import OutputsJob

Model = Annotated[Path, typer.Argument(help="A model made by `stockpot merge`.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where weights are merged: cpu, cuda, cuda:N, or auto (CUDA if it is there).",
    ),
]
Inputs = Annotated[
    Path, typer.Option("--inputs", help="The folder that paths in its pedigree are relative to.")
]


def merge(  # noqa: PLR0913, PLR0917 (one per option of the command)
    config: Annotated[
        Path | None, typer.Argument(help="The merge file, in stockpot's or mergekit's format.")
    ] = None,
    place: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="A folder, or a file name ending in .safetensors."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything and print the forecast; merge nothing."),
    ] = False,
    methods: Annotated[
        bool, typer.Option("--methods", help="List the merge methods with their options.")
    ] = False,
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Subtract the weight signatures that the file adds."),
    ] = False,
    force: Force = False,
    device: Device = "cpu",
) -> None:
    r"""Merge models on disk: folders, shards, safetensors, PyTorch weights, adapters.

    Models may be larger than memory. An interrupted merge continues with the same command. A
    merge file:

      method: ties

      models: \[fine-tuned-a, {path: fine-tuned-b, coefficient: 0.5}]

      base: pretrained

      options: {density: 0.2}

    stockpot merge merge.yaml merged --dry-run
    """
    if methods:
        _show_methods()
        return
    if config is None or place is None:
        raise InputError("merge: needs CONFIG and OUT; `stockpot merge --help` shows an example")
    job = _job(config, place, device, remove=remove, force=force, reads_ahead=not dry_run)
    from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob

    if isinstance(job, AdapterMergeJob):
        _merge_adapters(job, dry_run=dry_run)
        return
    job.check()
    _show_forecast(job)
    if dry_run:
        OUT.print("Nothing was merged (--dry-run).")
        return
    start = time.monotonic()
    _run(job)
    example = place / job.file.outputs[0].name if job.file.outputs else place
    _show_notes([note for note in job.notes_on_contents if note not in job.notes])
    OUT.print(f"{place}: {job.summary} in {time.monotonic() - start:.1f} s.")
    show_next(f"stockpot explain {shlex.quote(str(example))}")


def _job(
    config: Path, place: Path, device: str, *, remove: bool, force: bool, reads_ahead: bool
) -> MergeJob | OutputsJob | AdapterMergeJob:
    """Read a merge file, and open what it names."""
    from stockpot.disk_merging.merge_files.mergekit_form import load_merge, model_paths
    from stockpot.storage.weights.model_files import digest_ahead

    if reads_ahead:
        digest_ahead(model_paths(config))  # while torch is being imported
    file = load_merge(config)  # before it is, so that errors are shown at once
    from stockpot.disk_merging.job_kinds import job_kind
    from stockpot.disk_merging.signatures.signature_job import removing
    from stockpot.disk_merging.streaming.devices import device_named

    file = removing(file) if remove else file
    if file.outputs:
        from stockpot.disk_merging.outputs_job import OutputsJob

        chosen = device_named(device)
        return OutputsJob(file, config.parent, place, force, file_name=config.name, device=chosen)
    kind = job_kind(file.method, file.output)
    if not kind.merges_on_devices and device not in ("auto", "cpu"):
        raise InputError(
            f"--device: an output of kind {file.output!r} is written on the CPU, got {device}; "
            "leave it out"
        )
    chosen = device_named(device if kind.merges_on_devices else "cpu")
    return kind(file, config.parent, place, force, file_name=config.name, device=chosen)


def explain(model: Model) -> None:
    """Show from its header how a merged model was made.

    stockpot explain merged
    """
    from stockpot.disk_merging.merge_files.merge_file import RULES
    from stockpot.disk_merging.pedigree import listed_models, read_pedigree

    pedigree = read_pedigree(model)
    OUT.print(f"{model}: {pedigree['method']}, made by stockpot {pedigree['version']}")
    table = Table("", "model", "coefficient", "digest")
    for place, each in listed_models(pedigree):
        shown = each["path"] if "path" in each else f"merge: {each['merge']['method']}"
        table.add_row(place, shown, str(each.get("coefficient", "")), each["digest"])
    OUT.print(table)
    for place, each in listed_models(pedigree):
        if "merge" in each:
            OUT.print(f"{place}: {_shown_recipe(each['merge'])}")
        if "options" in each:
            OUT.print(f"options of {each.get('path', place)}: {each['options']}")
    for part in pedigree.get("layers", []):
        OUT.print(f"layers: {part}")
    for name in ("output", "rank", "bits", "options", "seed", "dtype", "device", *RULES[1:]):
        if pedigree.get(name) not in (None, {}):
            OUT.print(f"{name}: {pedigree[name]}")


def _shown_recipe(pedigree: Mapping[str, Any]) -> str:
    """Return the method and the settings of a merge within another one, in one line."""
    from stockpot.disk_merging.recorded_file import RECIPE_FIELDS

    settings = {name: pedigree.get(name) for name in RECIPE_FIELDS if pedigree.get(name)}
    return ", ".join(f"{name}: {value}" for name, value in settings.items())


def verify(model: Model, inputs: Inputs = Path()) -> None:
    """Rebuild a merged model from its pedigree and compare the two byte for byte.

    stockpot verify merged --inputs ~/models
    """
    from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob
    from stockpot.disk_merging.job_kinds import job_kind
    from stockpot.disk_merging.pedigree import read_pedigree
    from stockpot.disk_merging.streaming.devices import device_named
    from stockpot.storage.weights.sources import open_files

    pedigree = read_pedigree(model)
    kind = job_kind(pedigree["method"], pedigree.get("output", "model"))
    with tempfile.TemporaryDirectory(dir=model.absolute().parent) as folder:
        place = Path(folder) / f"again{model.suffix}"
        # On CUDA only if it was merged there: the CPU gives the same bits on any machine.
        device = device_named("auto" if "device" in pedigree else "cpu")
        job = kind.rebuilding(model, place, inputs, device)
        job.check()
        if isinstance(job, AdapterMergeJob):
            job.run()
        else:
            _run(job)
        # SHA-256, which is formed anew: a digest kept from a merge would hide damage to the disk.
        found, again = (open_files(path).digest_by("sha256") for path in (model, place))
    if found != again:
        where = ""
        if "device" in pedigree:
            here = device.label or "the CPU"
            where = f"; merged on {pedigree['device']} and rebuilt on {here}: last bits may differ"
        raise StageFailed(
            f"{model}: its weights differ from those of its pedigree: digest {found[:12]}, "
            f"rebuilt {again[:12]}{where}"
        )
    OUT.print(f"{model}: rebuilt from its inputs, equal byte for byte ({found[:12]})")


def _merge_adapters(job: AdapterMergeJob, *, dry_run: bool) -> None:
    job.check()
    what = f"{counted(job.inputs, 'adapter')}, {counted(job.modules, 'module')}"
    OUT.print(f"{job.file.method}: {what}")
    if dry_run:
        OUT.print("Nothing was merged (--dry-run).")
        return
    merged = job.run()
    OUT.print(f"{job.place}: {merged.summary}.")
    show_next(f"stockpot explain {shlex.quote(str(job.place))}")


def _run(job: MergeJob | OutputsJob) -> None:
    """Merge with a progress bar, which counts the bytes that are read."""
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    total = sum(plan.num_input_bytes for plan in job.plans)
    with Progress(*columns, console=ERR, disable=not ERR.is_terminal) as progress:
        job.run(partial(progress.advance, progress.add_task("merge", total=total)))


def _show_forecast(job: MergeJob | OutputsJob) -> None:
    listed = ", ".join(f"{decimal(size)} {name}" for name, size in job.forecast.items())
    what = f"{counted(job.sources, 'model')}, {counted(job.plans, 'tensor')}"
    OUT.print(f"{job.file.method}: {what}; {listed}")
    _show_notes(job.notes)


def _show_notes(notes: Sequence[str]) -> None:
    for note in notes:
        OUT.print(f"- {note}")


def _show_methods() -> None:
    from stockpot.merging.registry import METHODS

    table = Table("method", "models", "base", "options", "what it does")
    for name, method in sorted(METHODS.items()):
        least, largest = method.num_models
        models = str(least) if largest == least else f"{least}+" if largest is None else "?"
        base = "yes" if method.needs_base else "optional" if method.takes_base else ""
        options = ", ".join(
            option if default is ... else f"{option}={default}"
            for option, default in method.options.items()
        )
        where = " Only in experiments, since it needs data." if method.side_information else ""
        table.add_row(name, models, base, options, method.summary + where)
    OUT.print(table)
    OUT.print("Methods that need a base also take lines_alpha=1.0 and lines_beta=0.0 (LiNeS).")
