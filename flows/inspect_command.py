"""The command that compares models on disk before a merge; it needs no project and no server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from flows.terminal import OUT, show_next

if TYPE_CHECKING:
    from stockpot.storage.weights.sources import Source


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
