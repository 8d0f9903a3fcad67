"""The metadata of a merged model's card: its base models, licence, library and task.

Source: https://huggingface.co/docs/hub/model-cards#model-card-metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stockpot.disk_merging.side_files.companions import CARD
from stockpot.errors import InputError
from stockpot.storage.weights.components import MODULES, PIPELINE
from stockpot.storage.weights.hub_layout import cached_name
from stockpot.storage.weights.hub_origins import repository, shown_name, stated_name
from stockpot.storage.weights.model_config import read_config
from stockpot.storage.weights.sources import Source

TAGS = ["merge", "stockpot"]

_LICENCE = ("license", "license_name", "license_link")
_NONE_STATED = "none stated"
# The Hub's task for the end of an architecture's name.
_TASKS = {
    "ForCausalLM": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForImageClassification": "image-classification",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
    "ForCTC": "automatic-speech-recognition",
}


def hub_names(model: Source) -> list[str]:
    """List the names of a model on the Hub; unknown ones are replaced by what it was made from.

    An adapter has two names: its own and that of its base.
    """
    names = []
    for folder in dict.fromkeys(filter(None, [model.path, model.folder])):
        own = cached_name(folder) or stated_name(folder)
        origins = _card(folder).get("base_model", [])
        listed = origins if isinstance(origins, list) else [origins]
        names += [own] if own else [name for each in listed if (name := repository(each))]
    return names


def front_matter(models: Sequence[Source], origin: Path | None) -> dict[str, Any]:
    """Return the metadata of the card of a merged model.

    What the models' own cards state is stated again if they agree.

    Args:
        models: that are merged, the base included.
        origin: folder whose configuration is copied; None without one.
    """
    cards = [_card(model.path) or _card(model.folder) for model in models]
    names = dict.fromkeys(name for model in models for name in hub_names(model))
    content: dict[str, Any] = {}
    if names:
        content |= {"base_model": list(names), "base_model_relation": "merge"}
    content |= _licence(cards)
    content |= _agreed(cards, "language")
    content |= _library(origin) or _agreed(cards, "library_name")
    content |= _agreed(cards, "pipeline_tag") or _task(origin)
    return content | {"tags": TAGS}


def licences(models: Sequence[Source]) -> str:
    """Return a sentence on the licences of models if their cards state different ones."""
    stated = [_stated(_card(model.path) or _card(model.folder)) for model in models]
    if len(set(stated)) == 1:
        return ""
    names = [shown_name(model.path) for model in models]
    listed = ", ".join(f"{n}: {own}" for n, own in dict(zip(names, stated, strict=True)).items())
    return f"The models state different licences ({listed}); the merged model is subject to all."


def _card(path: Path | None) -> dict[str, Any]:
    """Read the metadata of a model's card; empty without a card, or one that has none."""
    if path is None or not (path / CARD).is_file():
        return {}
    try:
        before, mark, rest = (path / CARD).read_text(encoding="utf-8").partition("---\n")
        content = yaml.safe_load(rest.partition("\n---")[0]) if mark and not before else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _stated(card: Mapping[str, Any]) -> str:
    licence = card.get("license_name") or card.get("license")
    return licence if isinstance(licence, str) else _NONE_STATED


def _licence(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the licence that all models state; `other` if they state different ones."""
    stated = {_stated(card) for card in cards}
    if len(stated) == 1:
        return {key: cards[0][key] for key in _LICENCE if key in cards[0]}
    return {} if _NONE_STATED in stated else {"license": "other"}


def _agreed(cards: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """Return a field if all cards that have it agree."""
    values = [card[key] for card in cards if card.get(key)]
    return {key: values[0]} if values and all(value == values[0] for value in values) else {}


def _library(origin: Path | None) -> dict[str, str]:
    if origin is None:
        return {}
    if (origin / MODULES).is_file():
        return {"library_name": "sentence-transformers"}
    if (origin / PIPELINE).is_file():
        return {"library_name": "diffusers"}
    return {"library_name": "transformers"} if "model_type" in _config(origin) else {}


def _task(origin: Path | None) -> dict[str, str]:
    if origin is not None and (origin / MODULES).is_file():
        return {"pipeline_tag": "sentence-similarity"}
    architectures = _config(origin).get("architectures")
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    return next(({"pipeline_tag": t} for end, t in _TASKS.items() if first.endswith(end)), {})


def _config(folder: Path | None) -> dict[str, Any]:
    try:
        return read_config(folder)
    except InputError:
        return {}
