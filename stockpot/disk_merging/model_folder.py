"""The configuration of a merged model, and the vocabularies of its models."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot.disk_merging.merge_file import LayersEntry
from stockpot.disk_merging.origins import Origin
from stockpot.disk_merging.tied_heads import is_tied
from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text
from stockpot.storage.weights.model_config import read_config
from stockpot.storage.weights.quantized.claims import without_quantization
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import tied_names

_NUM_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


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
