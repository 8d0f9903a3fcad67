"""The two formats of a merge file: stockpot's own, and mergekit's, which is converted.

Features of mergekit that are not supported are refused by name, before anything is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from stockpot.disk_merging.hub_names import with_commits
from stockpot.disk_merging.merge_file import (
    Dtype,
    LayerSource,
    MergeFile,
    Scalar,
    model_and_adapter,
)
from stockpot.errors import InputError
from stockpot.merging.registry import METHODS
from stockpot.storage.hub import is_remote
from stockpot.yaml_files import Section, read_yaml, validated


class _Model(Section):
    model: str
    parameters: dict[str, Any] = Field({})


class _LayersOfModel(_Model):
    layer_range: tuple[int, int]


class _Slice(Section):
    sources: list[_LayersOfModel] = Field(min_length=1)
    parameters: dict[str, Any] = Field({})
    base_model: str | None = None
    residual_weight: float | None = None


class _Tokenizer(Section):
    source: str


class _Mergekit(Section):
    merge_method: str
    models: list[_Model] | None = None
    slices: list[_Slice] | None = None
    base_model: str | None = None
    parameters: dict[str, Any] = Field({})
    dtype: Dtype | None = None
    out_dtype: Dtype | None = None
    tokenizer_source: str | None = None
    tokenizer: _Tokenizer | None = None
    modules: dict[str, Any] | None = None
    chat_template: str | None = None


M = TypeVar("M", bound=_Model)

# Defaults of mergekit that differ from ours, by method.
_DEFAULTS: Mapping[str, Mapping[str, Scalar]] = {
    "breadcrumbs": {"density": 1.0},
    "breadcrumbs_ties": {"density": 1.0},
    "dare_linear": {"density": 1.0, "rescale": "l1"},
    "dare_ties": {"density": 1.0, "rescale": "l1"},
    "della": {"density": 1.0, "rescale": "l1"},
    "della_linear": {"density": 1.0, "rescale": "l1"},
    "ties": {"density": 1.0},
}
_RENAMED = {"lambda": "scale"}
_WITHOUT_EFFECT = {"int8_mask"}  # it affects mergekit's memory, not the result


def load_merge(path: Path) -> MergeFile:
    """Read a merge file of either format; paths in it are relative to its folder.

    Models on the Hugging Face Hub are downloaded once all else is valid.

    Raises:
        InputError: with everything that is wrong or not supported.
    """
    content = read_yaml(path)
    if "merge_method" in content or "slices" in content:
        content = _ours(validated(_Mergekit, content, path.name), path.name)
    if isinstance(content.get("layers"), list):
        content["layers"] = [_with_list_of_models(part) for part in content["layers"]]
    return with_commits(validated(MergeFile, content, path.name), path.parent)


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
    found = [content[key] for key in ("path", "model", "base", "base_model") if key in content]
    listed = content.get("models")
    found += listed if isinstance(listed, list) else []
    named = [name for name in found if isinstance(name, str)]
    return named + [name for part in content.values() for name in _named_models(part)]


def _with_list_of_models(part: Any) -> Any:
    """Expand the short form of an entry of `layers` with a single model."""
    if not isinstance(part, dict) or "path" not in part:
        return part
    own = {name: part[name] for name in LayerSource.model_fields if name in part}
    return {"models": [own], **{name: part[name] for name in part if name not in own}}


def _ours(theirs: _Mergekit, file_name: str) -> dict[str, Any]:
    """Convert a file of mergekit to our format."""
    _check_supported(theirs, file_name)
    source = theirs.tokenizer.source if theirs.tokenizer else theirs.tokenizer_source
    ours: dict[str, Any] = {
        "method": theirs.merge_method,
        "base": theirs.base_model if _takes_base(theirs) else None,
        "dtype": theirs.out_dtype or theirs.dtype,
        "equal_tokenizers": source == "union",
        "config_from": _config_from(theirs, source),
    }
    if theirs.slices:
        return ours | {"layers": [_our_layers(theirs, part, file_name) for part in theirs.slices]}
    models = _ordered(theirs, _with_base(theirs))
    options, weights = _parameters(theirs, models, {}, file_name)
    ours["models"] = [
        {"path": model.model, "coefficient": weight}
        for model, weight in zip(models, weights, strict=True)
    ]
    return ours | {"options": options}


def _check_supported(theirs: _Mergekit, file_name: str) -> None:
    """Refuse fields that are not supported, by name."""
    unsupported = [field for field in ("modules", "chat_template") if getattr(theirs, field)]
    unsupported += [
        f"slices.{number}.{field}"
        for number, part in enumerate(theirs.slices or [])
        for field in ("base_model", "residual_weight")
        if getattr(part, field) is not None
    ]
    if unsupported:
        raise InputError(f"{file_name}: {', '.join(unsupported)}: not supported; remove it")
    if not theirs.models and not theirs.slices:
        raise InputError(f"{file_name}: models: is required, got nothing")
    if theirs.models and theirs.slices:
        raise InputError(f"{file_name}: slices: replace models; remove one of them")


def _config_from(theirs: _Mergekit, tokenizer_source: str | None) -> str | None:
    """Return the model whose config and tokenizer are copied; None for the default."""
    if tokenizer_source not in (None, "base", "union"):
        return tokenizer_source.removeprefix("model:")
    return None if _takes_base(theirs) else theirs.base_model


def _with_base(theirs: _Mergekit) -> list[_Model]:
    """List the models; methods that merge two models include the base even if it is not listed."""
    listed = theirs.models or []
    if theirs.base_model is None or theirs.base_model in {model.model for model in listed}:
        return listed
    return [*listed, _Model(model=theirs.base_model)] if _merges_two(theirs) else listed


def _our_layers(theirs: _Mergekit, part: _Slice, file_name: str) -> dict[str, Any]:
    """Convert a slice; mergekit interpolates global parameters over the depth of each slice."""
    sources = _ordered(theirs, part.sources)
    ranges = [source.layer_range for source in part.sources if source.model == theirs.base_model]
    if _takes_base(theirs) and any(own != sources[0].layer_range for own in ranges):
        raise InputError(
            f"{file_name}: slices: layers of the base must be those of the first model, got "
            f"{list(ranges[0])} and {list(sources[0].layer_range)}"
        )
    options, weights = _parameters(theirs, sources, part.parameters, file_name)
    models = [
        {"path": source.model, "range": source.layer_range, "coefficient": weight}
        for source, weight in zip(sources, weights, strict=True)
    ]
    return {"models": models, "options": options}


def _takes_base(theirs: _Mergekit) -> bool:
    name = theirs.merge_method
    return name not in METHODS or METHODS[name].takes_base


def _merges_two(theirs: _Mergekit) -> bool:
    return not _takes_base(theirs) and METHODS[theirs.merge_method].num_models == (2, 2)


def _ordered(theirs: _Mergekit, listed: Sequence[M]) -> list[M]:
    """Return the models in the order in which they are merged.

    Methods of two models without a base start from the one that mergekit calls the base.
    """
    named = [model for model in listed if model.model == theirs.base_model]
    others = [model for model in listed if model.model != theirs.base_model]
    if _takes_base(theirs):
        return others or named  # the base itself would dilute the mean
    return [*named, *others] if _merges_two(theirs) else list(listed)


def _parameters(
    theirs: _Mergekit, models: Sequence[_Model], outer: Mapping[str, Any], file_name: str
) -> tuple[dict[str, Any], list[Any]]:
    """Return the method's options and the models' coefficients; inner parameters override."""
    options = {**_DEFAULTS.get(theirs.merge_method, {}), **theirs.parameters, **outer}
    weight = options.pop("weight", 1.0)
    weights = [model.parameters.get("weight", weight) for model in models]
    for name in sorted({name for model in models for name in model.parameters} - {"weight"}):
        values = [model.parameters.get(name, options.get(name)) for model in models]
        if any(value != values[0] for value in values):
            raise InputError(
                f"{file_name}: models: parameter {name!r} differs between models ({values}); "
                "only `weight` may"
            )
        options[name] = values[0]
    if isinstance(options.get("rescale"), bool):
        options["rescale"] = "l1" if options["rescale"] else "none"
    ours = {_RENAMED.get(n, n): v for n, v in options.items() if n not in _WITHOUT_EFFECT}
    return ours, weights
