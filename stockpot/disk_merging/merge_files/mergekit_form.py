"""The two formats of a merge file: stockpot's own, and mergekit's, which is converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stockpot.disk_merging.merge_files.hub_names import with_commits
from stockpot.disk_merging.merge_files.merge_file import LayerSource, MergeFile
from stockpot.disk_merging.merge_files.model_paths import model_and_adapter
from stockpot.disk_merging.mergekit.conversion import from_mergekit, is_mergekit
from stockpot.disk_merging.mergekit.stages import from_stages
from stockpot.errors import InputError, at_place
from stockpot.storage.hub import is_remote
from stockpot.yaml_files import read_documents, validated

_NAMING = ("path", "model", "base", "base_model")
_OF_TOKENIZER = ("source", "tokenizer_source")  # a model, or one of:
_NO_MODELS = ("base", "union")


def load_merge(path: Path) -> MergeFile:
    """Read a merge file of either format.

    Models on the Hugging Face Hub are downloaded once all else is valid.

    Raises:
        InputError: with everything that is wrong or not supported.
    """
    documents, notes = read_documents(path), list[str]()
    if len(documents) > 1:
        content, notes = from_stages(documents, path.name)
    else:
        (content,) = documents
        if is_mergekit(content):
            content, notes = from_mergekit(content, path.name)
    file = validated(MergeFile, _expanded(content), path.name).ignoring(notes)
    try:
        return with_commits(file, path.parent)
    except InputError as error:
        raise at_place(path.name, error) from error


def model_paths(path: Path) -> list[Path]:
    """List the models on this disk that a merge file of either format names, even if not valid.

    Raises:
        InputError: it is not YAML.
    """
    documents = read_documents(path)
    stages = [document.get("name") for document in documents]
    named = [
        model_and_adapter(path.parent, name)
        for name in _named_models(documents)
        if name.partition("+")[0] not in stages
        and not any(is_remote(path.parent, part) for part in name.split("+"))
    ]
    return [part for parts in named for part in parts if part is not None]


def _named_models(content: Any) -> list[str]:
    if isinstance(content, list):
        return [name for part in content for name in _named_models(part)]
    if not isinstance(content, dict):
        return []
    found = [content[key] for key in _NAMING if key in content]
    listed = content.get("models")
    found += listed if isinstance(listed, list) else []
    found += [content[k] for k in _OF_TOKENIZER if k in content and content[k] not in _NO_MODELS]
    named = [name.removeprefix("model:") for name in found if isinstance(name, str)]
    return named + [name for part in content.values() for name in _named_models(part)]


def _expanded(content: Any) -> Any:
    """Expand the short form of entries of `layers` with a single model."""
    if isinstance(content, list):
        return [_expanded(part) for part in content]
    if not isinstance(content, dict):
        return content
    whole = {name: _expanded(value) for name, value in content.items()}
    if isinstance(whole.get("layers"), list):
        whole["layers"] = [_with_list_of_models(part) for part in whole["layers"]]
    return whole


def _with_list_of_models(part: Any) -> Any:
    if not isinstance(part, dict) or not {"path", "merge"} & part.keys():
        return part
    # Options next to a single model are those of the layers.
    fields = LayerSource.model_fields.keys() - {"options"}
    own = {name: part[name] for name in part if name in fields}
    return {"models": [own], **{name: part[name] for name in part if name not in own}}
