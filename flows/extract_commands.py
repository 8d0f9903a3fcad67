"""The command that extracts an adapter from a fine-tuned model on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import track
from rich.table import Table

from flows.options import Force
from flows.terminal import ERR, OUT

if TYPE_CHECKING:
    from stockpot.disk_merging.adapters.lora_extraction import Truncation

_DEFAULT_RANK = 32
_NO_LIMIT = 2**31
_MOST_ROWS = 40

Dtype = Literal["float32", "float16", "bfloat16"]


def extract_lora(  # noqa: PLR0913, PLR0917 (one per option of the command)
    finetuned: Annotated[str, typer.Argument(help="The fine-tuned model.")],
    base: Annotated[str, typer.Argument(help="The model that it was fine-tuned from.")],
    place: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the adapter.")],
    rank: Annotated[
        int | None,
        typer.Option("--rank", help="The largest rank; 32, or with --energy no limit."),
    ] = None,
    energy: Annotated[
        float,
        typer.Option(
            "--energy", help="The fraction of each change's squared norm that suffices; e.g. 0.95."
        ),
    ] = 1.0,
    modules: Annotated[
        list[str] | None,
        typer.Option("--modules", help="Part of the names of layers, e.g. q_proj; repeatable."),
    ] = None,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Of the adapter's weights.")] = "float32",
    save_rest: Annotated[
        bool,
        typer.Option("--save-rest", help="Store norms, biases, embeddings and heads that differ."),
    ] = False,
    force: Force = False,
) -> None:
    """Extract a LoRA adapter, as PEFT loads it, from a fully fine-tuned model.

    stockpot extract-lora fine-tuned pretrained adapter --rank 16
    """
    import torch

    from stockpot.disk_merging.adapters.lora_extraction import LoraExtraction
    from stockpot.storage.hub import model_path
    from stockpot.storage.weights.naming import named_like
    from stockpot.storage.weights.opening import open_source

    base_source = open_source(model_path(Path(), base))
    extraction = LoraExtraction(
        named_like(open_source(model_path(Path(), finetuned), base_source), base_source),
        base_source,
        base,
        place,
        (_DEFAULT_RANK if energy == 1 else _NO_LIMIT) if rank is None else rank,
        energy,
        modules or [],
        getattr(torch, dtype),
        save_rest,
        force,
    )
    extraction.check()
    steps = track(
        extraction.run(), "extract", len(extraction.names), console=ERR, disable=not ERR.is_terminal
    )
    _show(dict(steps), place)


def _show(found: Mapping[str, Truncation], place: Path) -> None:
    """Print the error of each change, or of the worst, and the total."""
    from stockpot.disk_merging.adapters.lora_extraction import total_error

    listed = sorted(found.items(), key=lambda item: -item[1].relative)
    table = Table("tensor", "rank", "relative error")
    for name, one in listed[:_MOST_ROWS]:
        rank = "whole" if one.rank is None else str(one.rank or "left out")
        table.add_row(name, rank, f"{one.relative:.4g}")
    OUT.print(table)
    if len(listed) > _MOST_ROWS:
        OUT.print(f"{len(listed) - _MOST_ROWS} more with smaller errors: {place / 'README.md'}")
    factorised = [one for one in found.values() if one.rank]
    OUT.print(
        f"{place}: {len(factorised)} modules with a relative error of "
        f"{total_error(factorised):.4g}; of all changes {total_error(found.values()):.4g}. "
        "Next: merge it, or load it with PEFT"
    )
