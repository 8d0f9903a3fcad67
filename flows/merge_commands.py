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
from rich.text import Text

from flows.options import Force
from flows.terminal import ERR, OUT, counted, show_next
from stockpot.errors import InputError, StageFailed

if TYPE_CHECKING:
    from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob
    from stockpot.disk_merging.job import MergeJob
    from stockpot.disk_merging.outputs_job import OutputsJob
    from stockpot.storage.weights.sources import Source

Model = Annotated[Path, typer.Argument(help="A model made by `stockpot merge`.")]
Inputs = Annotated[
    Path, typer.Option("--inputs", help="The folder that paths in its pedigree are relative to.")
]


def merge(
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
    job = _job(config, place, remove=remove, force=force, reads_ahead=not dry_run)
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
    config: Path, place: Path, *, remove: bool, force: bool, reads_ahead: bool
) -> MergeJob | OutputsJob | AdapterMergeJob:
    """Read a merge file, and open what it names."""
    from stockpot.disk_merging.merge_files.mergekit_form import load_merge, model_paths
    from stockpot.storage.weights.model_files import digest_ahead

    if reads_ahead:
        digest_ahead(model_paths(config))  # while torch is being imported
    file = load_merge(config)  # before it is, so that errors are shown at once
    from stockpot.disk_merging.job_kinds import job_kind
    from stockpot.disk_merging.signatures.signature_job import removing

    file = removing(file) if remove else file
    if file.outputs:
        from stockpot.disk_merging.outputs_job import OutputsJob

        return OutputsJob(file, config.parent, place, force, file_name=config.name)
    kind = job_kind(file.method, file.output)
    return kind(file, config.parent, place, force, file_name=config.name)


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
    for name in ("output", "rank", "bits", "options", "seed", "dtype", *RULES[1:]):
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
    from stockpot.storage.weights.sources import open_files

    pedigree = read_pedigree(model)
    kind = job_kind(pedigree["method"], pedigree.get("output", "model"))
    with tempfile.TemporaryDirectory(dir=model.absolute().parent) as folder:
        place = Path(folder) / f"again{model.suffix}"
        job = kind.rebuilding(model, place, inputs)
        job.check()
        if isinstance(job, AdapterMergeJob):
            job.run()
        else:
            _run(job)
        # SHA-256, which is formed anew: a digest kept from a merge would hide damage to the disk.
        found, again = (open_files(path).digest_by("sha256") for path in (model, place))
    if found != again:
        raise StageFailed(
            f"{model}: its weights differ from those of its pedigree: digest {found[:12]}, "
            f"rebuilt {again[:12]}"
        )
    OUT.print(f"{model}: rebuilt from its inputs, equal byte for byte ({found[:12]})")


def inspect(
    models: Annotated[
        list[str], typer.Argument(help="Two or more models: paths, or owner/name on the Hub.")
    ],
    base: Annotated[
        str | None, typer.Option("--base", help="The model that they were fine-tuned from.")
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Also compare weights: norms, cosines, signs.")
    ] = False,
) -> None:
    """Check from their headers whether models can be merged; exit code 1 if they cannot.

    stockpot inspect fine-tuned-a fine-tuned-b --base pretrained --weights
    """
    from stockpot.disk_merging.inspection import (
        compare_configurations,
        compare_headers,
        compare_weights,
    )
    from stockpot.storage.hub import model_path
    from stockpot.storage.weights.naming import named_like
    from stockpot.storage.weights.opening import open_source

    base_source = None if base is None else open_source(model_path(Path(), base))
    opened = [open_source(model_path(Path(), name), base_source) for name in models]
    sources = [named_like(source, base_source or opened[0]) for source in opened]
    _show_sizes(sources)
    all_models = [*sources, *([base_source] if base_source else [])]
    findings = [*compare_configurations(all_models), *compare_headers(all_models)]
    if weights:
        compared = compare_weights(sources, base_source)
        findings += compared.findings
        what = "task vectors" if base else "models"
        OUT.print(f"norms of {what}: " + ", ".join(f"{norm:.3g}" for norm in compared.norms))
        _show_matrix(f"cosine between {what}", compared.cosines)
        _show_matrix(f"share of equal signs in {what}", compared.sign_agreement)
    for finding in findings:
        mark, style = ("✗", "red") if finding.is_obstacle else ("-", None)
        OUT.print(f"{mark} {finding.text}", style=style)
    if any(finding.is_obstacle for finding in findings):
        OUT.print("These models cannot be merged as they are.")
        raise typer.Exit(1)
    OUT.print("These models can be merged.")
    show_next("stockpot merge --methods")


def _show_sizes(sources: Sequence[Source]) -> None:
    from stockpot.storage.weights.hub_layout import cached_name

    table = Table("", "model", "tensors", "numbers", "size")
    for number, source in enumerate(sources):
        num_params = sum(tensor.num_elements for tensor in source.tensors.values())
        named, size = cached_name(source.path) or str(source.path), decimal(source.num_bytes)
        table.add_row(str(number), named, str(len(source.tensors)), f"{num_params:,}", size)
    OUT.print(table)


def _show_matrix(title: str, values: list[list[float]]) -> None:
    """Print a heat map; higher values are greener."""
    table = Table("", *map(str, range(len(values))), title=title, title_justify="left")
    for number, row in enumerate(values):
        cells = [
            Text(f" {value:5.2f} ", style=f"on rgb(0,{int(110 * max(value, 0.0))},40)")
            for value in row
        ]
        table.add_row(str(number), *cells)
    OUT.print(table)


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
