"""The file of `stockpot merge`: which models are merged, and how."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from stockpot.errors import InputError
from stockpot.yaml_files import Section

Scalar = float | bool | str
Rule = dict[Literal["filter", "value"], Any]
Value = Scalar | list[float] | list[Rule]

Dtype = Literal["float64", "float32", "float16", "bfloat16"]

_EXACT_WITHOUT_BASE = ("linear", "task_arithmetic")  # the sum of changes is the change


class ModelEntry(Section):
    """One model that is merged."""

    path: str = Field(
        description="a folder, a .safetensors file, a file of PyTorch weights; or model+adapter"
    )
    coefficient: float | list[float] | list[Rule] = Field(
        1.0, description="a number; or a list over the layers' depth; or a list of filter and value"
    )


class LayerSource(ModelEntry):
    """Successive layers of one model."""

    range: tuple[int, int] = Field(description="the first layer, and the one after the last")

    @model_validator(mode="after")
    def _has_layers(self) -> LayerSource:
        first, end = self.range
        if not 0 <= first < end:
            raise ValueError(f"range must be [first, end] with 0 <= first < end, got {self.range}")
        return self


class LayersEntry(Section):
    """Successive layers of the output: of one model, or merged from several."""

    models: list[LayerSource] = Field(min_length=1)
    options: dict[str, Value] = Field({}, description="the method's, beside those of all layers")

    @model_validator(mode="after")
    def _ranges_have_one_length(self) -> LayersEntry:
        ranges = [list(model.range) for model in self.models]
        if len({end - first for first, end in ranges}) > 1:
            raise ValueError(f"ranges of layers that are merged must have one length, got {ranges}")
        return self

    @property
    def num_layers(self) -> int:
        """How many layers it is."""
        first, end = self.models[0].range
        return end - first


RULES = ("layers", "missing", "mismatch", "exclude", "integer")
# What a merge into an adapter has no use for.
_OF_MODELS = ("base", "config_from", "equal_tokenizers", *RULES)


class MergeFile(Section):
    """One merge, in our own form."""

    method: str = Field(description="merge method; `stockpot merge --methods` lists them")
    models: list[ModelEntry | str] | None = Field(None, min_length=1, description="all of each")
    layers: list[LayersEntry] = Field(
        [], description="in place of models: from which models the layers come, from the first on"
    )
    base: str | None = Field(None, description="what the models were fine-tuned from")
    options: dict[str, Value] = Field({}, description="the method's own")
    dtype: Dtype | None = Field(None, description="of the output; null: as the base's or first's")
    seed: int = Field(0, ge=0, lt=2**32, description="of methods that draw random numbers")
    missing: Literal["error", "skip", "base"] = Field(
        "error", description="of tensors that some models lack; skip: these take no part in them"
    )
    mismatch: Literal["error", "skip", "base", "common"] = Field(
        "error", description="of tensors of other shapes; common: the rows that all have are merged"
    )
    exclude: list[str] = Field(
        [], description="parts of names: such tensors are copied from the base or first model"
    )
    integer: Literal["error", "base", "first"] = Field(
        "error", description="of integer buffers that differ: from which model they are copied"
    )
    equal_tokenizers: bool = Field(False, description="refuse models whose vocabularies differ")
    output: Literal["model", "adapter"] = Field(
        "model", description="adapter: adapters are merged with each other, without a base"
    )
    rank: int | None = Field(
        None, ge=1, description="largest of an adapter that is written; null: as exactness needs"
    )
    config_from: str | None = Field(
        None, description="whose config and tokenizer files are copied; null: base's or first's"
    )

    @model_validator(mode="after")
    def _something_is_merged(self) -> MergeFile:
        if self.models is None and not self.layers:
            raise ValueError("models: is required, got nothing")
        if self.models is not None and self.layers:
            raise ValueError("layers: stand in place of models; remove one of them")
        return self

    @model_validator(mode="after")
    def _an_adapter_is_a_sum_of_adapters(self) -> MergeFile:
        if self.output == "model":
            if self.rank is not None:
                raise ValueError(f"rank is for `output: adapter` alone, got {self.rank}")
            return self
        if self.method not in _EXACT_WITHOUT_BASE:
            raise ValueError(
                f"method must be one of {list(_EXACT_WITHOUT_BASE)} for `output: adapter`, got "
                f"{self.method!r}; others need the base: merge onto it"
            )
        for field in _OF_MODELS:
            if self._says(field):
                raise ValueError(f"{field} is not for `output: adapter`; remove one of them")
        return self

    @property
    def entries(self) -> list[ModelEntry]:
        """The models, each with its coefficient; those that layers come from, each once."""
        paths = dict.fromkeys(source.path for part in self.layers for source in part.models)
        return [
            ModelEntry(path=entry) if isinstance(entry, str) else entry
            for entry in self.models or paths
        ]

    @property
    def rules(self) -> dict[str, Any]:
        """What it says of layers and of models that do not match; nothing where it is silent."""
        said = self.model_dump(mode="json", include=set(RULES))
        return {field: said[field] for field in RULES if self._says(field)}

    def _says(self, field: str) -> bool:
        return bool(getattr(self, field) != type(self).model_fields[field].default)


def model_and_adapter(folder: Path, name: str) -> tuple[Path, Path | None]:
    """Return where a model is, and the adapter on it if `name` is `model+adapter`, as in mergekit.

    Args:
        folder: to which both are relative.
        name: as it stands in a merge file; what is there by the whole name has no adapter.
    """
    whole = folder / Path(name).expanduser()
    model, plus, adapter = name.partition("+")
    if not plus or whole.exists():
        return whole, None
    return folder / Path(model).expanduser(), folder / Path(adapter).expanduser()


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
