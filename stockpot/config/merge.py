"""The file of `stockpot merge`: which models are merged, and how.

Two forms are read: our own, and that of mergekit, which is turned into our own. What mergekit
could do and we cannot is refused by name, before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from stockpot.config.reading import read_yaml, validated
from stockpot.config.section import Section
from stockpot.errors import InputError

Scalar = float | bool | str
Rule = dict[Literal["filter", "value"], Any]
Value = Scalar | list[float] | list[Rule]

Dtype = Literal["float64", "float32", "float16", "bfloat16"]


class ModelEntry(Section):
    """One model that is merged."""

    path: str = Field(description="a folder, a .safetensors file or a file of PyTorch weights")
    coefficient: float | list[float] | list[Rule] = Field(
        1.0, description="a number; or a list over the layers' depth; or a list of filter and value"
    )


class MergeFile(Section):
    """One merge, in our own form."""

    method: str = Field(description="merge method; `stockpot merge --methods` lists them")
    models: list[ModelEntry | str] = Field(min_length=1)
    base: str | None = Field(None, description="what the models were fine-tuned from")
    options: dict[str, Value] = Field({}, description="the method's own")
    dtype: Dtype | None = Field(None, description="of the output; null: as the base's or first's")
    seed: int = Field(0, ge=0, lt=2**32, description="of methods that draw random numbers")
    config_from: str | None = Field(
        None, description="whose config and tokenizer files are copied; null: base's or first's"
    )

    @property
    def entries(self) -> list[ModelEntry]:
        """The models, each with its coefficient."""
        return [
            ModelEntry(path=entry) if isinstance(entry, str) else entry for entry in self.models
        ]


class _MergekitModel(Section):
    model: str
    parameters: dict[str, Any] = Field({})


class _MergekitTokenizer(Section):
    source: str


class _Mergekit(Section):
    merge_method: str
    models: list[_MergekitModel] | None = None
    base_model: str | None = None
    parameters: dict[str, Any] = Field({})
    dtype: Dtype | None = None
    out_dtype: Dtype | None = None
    tokenizer_source: str | None = None
    tokenizer: _MergekitTokenizer | None = None
    slices: list[Any] | None = None
    modules: dict[str, Any] | None = None
    chat_template: str | None = None


# Their name of a method, and the options that they take where a file says nothing.
_MERGEKIT_DEFAULTS: Mapping[str, Mapping[str, Scalar]] = {
    "breadcrumbs": {"density": 1.0},
    "breadcrumbs_ties": {"density": 1.0},
    "dare_linear": {"density": 1.0, "rescale": "l1"},
    "dare_ties": {"density": 1.0, "rescale": "l1"},
    "della": {"density": 1.0, "rescale": "l1"},
    "della_linear": {"density": 1.0, "rescale": "l1"},
    "ties": {"density": 1.0},
}
_RENAMED = {"lambda": "scale"}
_WITHOUT_EFFECT = {"int8_mask"}  # it is about their memory, not about the result


def load_merge(path: Path) -> MergeFile:
    """Read a merge file of either form; paths in it are relative to its folder.

    Raises:
        InputError: with all that is wrong or not supported.
    """
    content = read_yaml(path)
    if "merge_method" in content or "slices" in content:
        return _from_mergekit(validated(_Mergekit, content, path.name), path.name)
    return validated(MergeFile, content, path.name)


def _from_mergekit(theirs: _Mergekit, file_name: str) -> MergeFile:
    unsupported = [
        field for field in ("slices", "modules", "chat_template") if getattr(theirs, field)
    ]
    source = theirs.tokenizer.source if theirs.tokenizer else theirs.tokenizer_source
    if source == "union":
        unsupported.append("tokenizer source 'union'")
    if unsupported:
        raise InputError(f"{file_name}: {', '.join(unsupported)}: not supported; remove it")
    if not theirs.models:
        raise InputError(f"{file_name}: models: is required, got nothing")
    ordered, base = _models_and_base(theirs)
    return MergeFile(
        method=theirs.merge_method,
        models=[
            ModelEntry(path=m.model, coefficient=m.parameters.get("weight", 1.0)) for m in ordered
        ],
        base=base,
        options=_mergekit_options(theirs, ordered, file_name),
        dtype=theirs.out_dtype or theirs.dtype,
        config_from=None if source in (None, "base") else source.removeprefix("model:"),
    )


def _models_and_base(theirs: _Mergekit) -> tuple[list[_MergekitModel], str | None]:
    """Return what is merged, and the base if the method takes one.

    Methods without a base that merge two models start from the one that is called base there.
    """
    from stockpot.merging import METHODS

    method = METHODS.get(theirs.merge_method)
    listed = theirs.models or []
    others = [model for model in listed if model.model != theirs.base_model]
    if method is None or theirs.base_model is None:
        return listed, theirs.base_model
    if method.needs_base or method.base_is_optional:
        return others, theirs.base_model  # listed among the models it would dilute the mean
    if method.num_models == (2, 2):
        named = [model for model in listed if model.model == theirs.base_model]
        return [*(named or [_MergekitModel(model=theirs.base_model)]), *others], None
    return listed, None


def _mergekit_options(
    theirs: _Mergekit, models: Sequence[_MergekitModel], file_name: str
) -> dict[str, Value]:
    options: dict[str, Any] = dict(_MERGEKIT_DEFAULTS.get(theirs.merge_method, {}))
    options |= theirs.parameters
    for name in sorted({name for model in models for name in model.parameters} - {"weight"}):
        values = [model.parameters.get(name) for model in models]
        if any(value != values[0] for value in values):
            raise InputError(
                f"{file_name}: models: parameter {name!r} differs between models ({values}); "
                "only `weight` may"
            )
        options[name] = values[0]
    if isinstance(options.get("rescale"), bool):
        options["rescale"] = "l1" if options["rescale"] else "none"
    return {
        _RENAMED.get(name, name): value
        for name, value in options.items()
        if name not in _WITHOUT_EFFECT
    }


def value_at(value: Value, name: str, depth: float) -> Scalar:
    """Return what a value is for one tensor.

    Args:
        value: a plain value; or anchors over the depth of the net, between which it is linear;
            or rules, of which the first counts whose filter is part of the name (`*` in it
            stands for anything).
        name: the tensor's.
        depth: of its layer, 0 for the first and 1 for the last.

    Raises:
        InputError: no rule is for this tensor.
    """
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], dict):
        for rule in value:
            assert isinstance(rule, dict)
            if _matches(str(rule.get("filter", "*")), name):
                return value_at(rule["value"], name, depth)
        raise InputError(f"tensor {name!r}: no filter of {value} is for it; end with one without")
    anchors = [float(anchor) for anchor in value if not isinstance(anchor, dict)]
    place = depth * (len(anchors) - 1)
    left = min(math.floor(place), len(anchors) - 2) if len(anchors) > 1 else 0
    right = min(left + 1, len(anchors) - 1)
    return anchors[left] + (place - left) * (anchors[right] - anchors[left])


def _matches(pattern: str, name: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(name, f"*{pattern}*")
