"""The two formats of a merge file: stockpot's own, and mergekit's, which is converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stockpot.disk_merging.hub_names import with_commits
from stockpot.disk_merging.merge_file import LayerSource, MergeFile
from stockpot.disk_merging.mergekit.conversion import from_mergekit
from stockpot.disk_merging.model_paths import model_and_adapter
from stockpot.storage.hub import is_remote
from stockpot.yaml_files import read_yaml, validated

_NAMING = ("path", "model", "base", "base_model")
_OF_TOKENIZER = ("source", "tokenizer_source")  # a model, or one of:
_NO_MODELS = ("base", "union")


def load_merge(path: Path) -> MergeFile:
    """Read a merge file of either format.

    Models on the Hugging Face Hub are downloaded once all else is valid.

    Raises:
        InputError: with everything that is wrong or not supported.
    """
    content, notes = read_yaml(path), list[str]()
    if "merge_method" in content or "slices" in content or "modules" in content:
        content, notes = from_mergekit(content, path.name)
    if isinstance(content.get("layers"), list):
        content["layers"] = [_with_list_of_models(part) for part in content["layers"]]
    file = validated(MergeFile, content, path.name).ignoring(notes)
    return with_commits(file, path.parent)


def model_paths(path: Path) -> list[Path]:
    """List the models on this disk that a merge file of either format names, even if not valid.

    Raises:
        InputError: it is not YAML.
    """
    named = [
        model_and_adapter(path.parent, name)
        for name in _named_models(read_yaml(path))
        if not any(is_remote(path.parent, part) for part in name.split("+"))
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


def _with_list_of_models(part: Any) -> Any:
    """Expand the short form of an entry of `layers` with a single model."""
    if not isinstance(part, dict) or "path" not in part:
        return part
    # Options next to a single model are those of the layers.
    fields = LayerSource.model_fields.keys() - {"options"}
    own = {name: part[name] for name in part if name in fields}
    return {"models": [own], **{name: part[name] for name in part if name not in own}}
