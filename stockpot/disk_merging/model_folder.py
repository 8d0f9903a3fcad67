"""The files next to merged weights: configuration, tokenizer, model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot.disk_merging.merge_file import LayersEntry
from stockpot.disk_merging.origins import Origin
from stockpot.disk_merging.tied_heads import is_tied
from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text
from stockpot.storage.model_cards import markdown_list, markdown_table, render_card
from stockpot.storage.weights.adapter_config import CONFIG
from stockpot.storage.weights.model_config import read_config
from stockpot.storage.weights.quantized.claims import SIDE_FILES, without_quantization
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import tied_names

# Configuration, tokenizer and generation settings.
_COPIED = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
_NUM_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def copy_companions(origin: Path, folder: Path) -> None:
    """Copy configuration and tokenizer of a model."""
    for pattern in _COPIED:
        for file in sorted(origin.glob(pattern)):
            if not file.name.endswith((".index.json", CONFIG)) and file.name not in SIDE_FILES:
                shutil.copy(file, folder)


def adapt_config(
    folder: Path,
    layers: Sequence[LayersEntry],
    sources: Mapping[str, Source],
    base: Source | None,
    names: Container[str],
) -> None:
    """Update the copied config.json where the merged model differs from the one it was copied from.

    Args:
        folder: of the merged model.
        layers: the layers of the merge file; empty if models are merged whole.
        sources: the models by their path in the merge file.
        base: the base; None without a base.
        names: of the tensors that are written.
    """
    config = without_quantization(read_config(folder))
    if not config:
        return
    if layers:
        configs = {path: read_config(source.folder) for path, source in sources.items()}
        _set_layers(config, layers, configs)
    models = [*sources.values(), *([base] if base else [])]
    pair = tied_names(dict.fromkeys(name for model in models for name in model.tensors))
    if pair is not None and any(is_tied(Origin(model, pair[1])) for model in models):
        config["tie_word_embeddings"] = pair[1] not in names
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")


def _set_layers(
    config: dict[str, Any], layers: Sequence[LayersEntry], configs: Mapping[str, dict[str, Any]]
) -> None:
    """Set the number of layers, and their types if config.json lists them."""
    inner = _text_config(config)
    field = next((name for name in _NUM_LAYERS if name in inner), None)
    if field is None:
        return
    inner[field] = sum(part.num_layers for part in layers)
    if "layer_types" in inner:
        types_of = {
            path: _text_config(own).get("layer_types", inner["layer_types"])
            for path, own in configs.items()
        }
        firsts = [part.models[0] for part in layers]
        inner["layer_types"] = [t for m in firsts for t in types_of[m.path][slice(*m.range)]]


def model_card(name: str, pedigree: Mapping[str, Any], notes: Sequence[str]) -> str:
    """Return the model card of a merged model: its inputs, the recipe, and how to rebuild it.

    Args:
        name: of the merged model.
        pedigree: all that its weights depend on.
        notes: exceptions that were made.
    """
    options = ", ".join(f"{name}: {value}" for name, value in pedigree["options"].items())
    base = pedigree["base"]
    parts = [
        f"Merged by stockpot {pedigree['version']} with `{pedigree['method']}`"
        + (f" ({options})." if options else "."),
        f"Base: {Path(base['path']).name} (`{base['digest'][:16]}`)." if base else "",
        _inputs_table("model", pedigree),
        _layers_table(pedigree["layers"]) if "layers" in pedigree else "",
        *(["Notes:", markdown_list(notes)] if notes else []),
        "The header of the weights holds the whole pedigree: `stockpot explain` prints it, "
        "`stockpot verify` rebuilds the model and compares.",
    ]
    return render_card({"tags": ["merge", "stockpot"]}, name, parts)


def adapter_card(name: str, pedigree: Mapping[str, Any], summary: str) -> str:
    """Return the model card of a merged adapter: its inputs, the recipe, and the error.

    Args:
        name: of the merged adapter.
        pedigree: all that its factors depend on.
        summary: modules, ranks and truncation error.
    """
    parts = [
        f"Adapters merged by stockpot {pedigree['version']} with `{pedigree['method']}`: "
        f"{summary}.",
        _inputs_table("adapter", pedigree),
    ]
    metadata = {"library_name": "peft", "tags": ["merge", "stockpot", "lora"]}
    return render_card(metadata, name, parts)


def _inputs_table(kind: str, pedigree: Mapping[str, Any]) -> str:
    rows = [
        (
            Path(model["path"]).name + (f" ({model['role']})" if "role" in model else ""),
            "by layer" if "layers" in pedigree else str(model["coefficient"]),
            f"`{model['digest'][:16]}`",
        )
        for model in pedigree["models"]
    ]
    return markdown_table((kind, "coefficient", "SHA-256"), rows)


def _layers_table(layers: Sequence[Mapping[str, Any]]) -> str:
    rows, start = [], 0
    for part in layers:
        first, end = part["models"][0]["range"]
        sources = ", ".join(
            f"{Path(m['path']).name} {m['range'][0]} to {m['range'][1] - 1} "
            f"(coefficient {m['coefficient']})"
            for m in part["models"]
        )
        rows.append((f"{start} to {start + end - first - 1}", sources, str(part["options"])))
        start += end - first
    return markdown_table(("layers", "from", "options"), rows)


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the section of the language model, for configurations that have several."""
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def check_equal_vocabularies(folders: Sequence[Path | None]) -> None:
    """Refuse models whose tokenizers assign different ids to a token.

    Args:
        folders: one per model; None for a model that is a single file.

    Raises:
        InputError: a model has no tokenizer.json, or a token differs.
    """
    first, *others = [_read_vocabulary(folder) for folder in folders]
    for folder, vocabulary in zip(folders[1:], others, strict=True):
        if vocabulary == first:
            continue
        differing = sorted({token for token, _ in first.items() ^ vocabulary.items()})
        raise InputError(
            f"{folder}: the ids of {len(differing)} tokens differ from those of {folders[0]}, "
            f"such as {differing[0]!r}; only equal vocabularies have a union so far: name one "
            "model as the tokenizer's source"
        )


def _read_vocabulary(folder: Path | None) -> dict[str, int]:
    """Read the id of each token from a tokenizer.json of the library tokenizers."""
    path = None if folder is None else folder / "tokenizer.json"
    if path is None or not path.is_file():
        raise InputError(f"{folder}: has no tokenizer.json, which a union of tokenizers needs")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = content["model"]["vocab"]
        if isinstance(listed, list):  # a Unigram model: pairs of token and score
            listed = {token: index for index, (token, _score) in enumerate(listed)}
        added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
        vocabulary = dict(listed) | added
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a tokenizer with a vocabulary ({error!r})") from error
    return vocabulary
