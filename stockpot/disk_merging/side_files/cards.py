"""The cards of merged models and adapters: their inputs, the recipe, and how to rebuild them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.disk_merging.side_files.card_metadata import TAGS, front_matter, licences
from stockpot.storage.digests import shortened
from stockpot.storage.model_cards import markdown_list, markdown_table, render_card
from stockpot.storage.weights.hub_origins import shown_name
from stockpot.storage.weights.sources import Source


def model_card(
    name: str,
    file: MergeFile,
    pedigree: Mapping[str, Any],
    notes: Sequence[str],
    models: Sequence[Source],
    origin: Path | None,
) -> str:
    """Return the card of a merged model.

    Args:
        name: of the merged model.
        file: how it was merged; the card repeats it, so that the merge can be run again.
        pedigree: all that its weights depend on.
        notes: exceptions that were made, and differences between the models.
        models: that are merged, the base included.
        origin: folder whose configuration was copied; None without one.
    """
    options = ", ".join(f"{name}: {value}" for name, value in pedigree["options"].items())
    base = pedigree["base"]
    parts = [
        f"Merged by stockpot {pedigree['version']} with `{pedigree['method']}`"
        + (f" ({options})." if options else "."),
        f"Base: {_shown(base)} (`{shortened(base['digest'])}`)." if base else "",
        _inputs_table("model", pedigree),
        _layers_table(pedigree["layers"]) if "layers" in pedigree else "",
        licences(models),
        *(["Notes:", markdown_list(notes)] if notes else []),
        "The merge file, for `stockpot merge`:",
        merge_block(file),
        "The header of the weights holds the whole pedigree: `stockpot explain` prints it, "
        "`stockpot verify` rebuilds the model and compares.",
    ]
    return render_card(front_matter(models, origin), name, parts)


def adapter_card(
    name: str, file: MergeFile, pedigree: Mapping[str, Any], summary: str, base: str | None
) -> str:
    """Return the card of a merged adapter.

    Args:
        name: of the merged adapter.
        file: how it was merged.
        pedigree: all that its factors depend on.
        summary: modules, ranks and truncation error.
        base: the adapters' base on the Hub; None if it is not there.
    """
    parts = [
        f"Adapters merged by stockpot {pedigree['version']} with `{pedigree['method']}`: "
        f"{summary}.",
        _inputs_table("adapter", pedigree),
        "The merge file, for `stockpot merge`:",
        merge_block(file),
    ]
    known = {"base_model": [base], "base_model_relation": "adapter"} if base else {}
    metadata = {**known, "library_name": "peft", "tags": [*TAGS, "lora"]}
    return render_card(metadata, name, parts)


def merge_block(file: MergeFile) -> str:
    """Return a merge file as a block of YAML, without what is as by default."""
    content = file.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return f"```yaml\n{text}```"


def _inputs_table(kind: str, pedigree: Mapping[str, Any]) -> str:
    rows = [
        (
            _shown(model) + (f" ({model['role']})" if "role" in model else ""),
            "by layer" if "layers" in pedigree else _coefficient(model),
            f"`{shortened(model['digest'])}`",
        )
        for model in pedigree["models"]
    ]
    return markdown_table((kind, "coefficient", "digest"), rows)


def _coefficient(model: Mapping[str, Any]) -> str:
    """Return a model's coefficient, and the options that are its own."""
    options = [f"{name}: {value}" for name, value in model.get("options", {}).items()]
    return ", ".join([str(model["coefficient"]), *options])


def _layers_table(layers: Sequence[Mapping[str, Any]]) -> str:
    rows, start = [], 0
    for part in layers:
        first, end = part["models"][0]["range"]
        sources = ", ".join(
            f"{_shown(m)} {m['range'][0]} to {m['range'][1] - 1} (coefficient {_coefficient(m)})"
            for m in part["models"]
        )
        rows.append((f"{start} to {start + end - first - 1}", sources, str(part["options"])))
        start += end - first
    return markdown_table(("layers", "from", "options"), rows)


def _shown(model: Mapping[str, Any] | str) -> str:
    """Return the name of a model: that on the Hub, with the commit, if its path is one there.

    A merge within the merge has none: its method and its models are named.
    """
    if isinstance(model, str):
        return model if "@" in model else shown_name(Path(model))
    if "path" in model:
        return _shown(str(model["path"]))
    inner = model["merge"]
    listed = inner["models"] or [one for part in inner["layers"] for one in part["models"]]
    names = ", ".join(dict.fromkeys(map(_shown, listed)))
    base = f" on {_shown(inner['base'])}" if inner["base"] else ""
    return f"{inner['method']} of ({names}){base}"
