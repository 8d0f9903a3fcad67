"""The merge file of `stockpot merge`: the models and how they are merged."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from stockpot.disk_merging.model_entry import Anchors, ModelEntry, Rules
from stockpot.disk_merging.rule_section import RuleSection
from stockpot.disk_merging.signature_roles import check_roles, in_order
from stockpot.disk_merging.vocabulary.section import TokenizerSection
from stockpot.errors import InputError
from stockpot.merging.masks import Masks
from stockpot.merging.registry import METHODS
from stockpot.yaml_files import Section

Scalar = int | float | bool | str
Value = Scalar | Anchors | Rules

Dtype = Literal["float64", "float32", "float16", "bfloat16"]

_EXACT_WITHOUT_BASE = ("linear", "task_arithmetic")  # the sum of changes is the change


class LayerSource(ModelEntry):
    """Consecutive layers of one model."""

    range: tuple[int, int] = Field(description="the first layer, and the one after the last")

    @model_validator(mode="after")
    def _has_layers(self) -> LayerSource:
        first, end = self.range
        if not 0 <= first < end:
            raise ValueError(f"range must be [first, end] with 0 <= first < end, got {self.range}")
        return self


class LayersEntry(Section):
    """Consecutive layers of the output: copied from one model, or merged from several."""

    models: list[LayerSource] = Field(min_length=1)
    options: dict[str, Value] = Field(
        {}, description="the method's, in addition to those of all layers"
    )

    @model_validator(mode="after")
    def _ranges_have_one_length(self) -> LayersEntry:
        ranges = [list(model.range) for model in self.models]
        if len({end - first for first, end in ranges}) > 1:
            raise ValueError(f"ranges of layers that are merged must have one length, got {ranges}")
        return self

    @property
    def num_layers(self) -> int:
        """The number of layers."""
        first, end = self.models[0].range
        return end - first


class Exceptions(Section):
    """The rules for tensors that do not match between models.

    Attributes:
        missing: for tensors that some models lack. skip: merge the others; base: copy the tensor
            from the base, or without a base, from the first model.
        mismatch: for tensors whose shape differs from the base's, or without a base, from the
            first model's. skip and base: as for `missing`; common: of embeddings and heads, merge
            the rows that all models have and copy the rest.
        exclude: parts of names (`*` is a wildcard) of tensors that are copied.
        integer: for integer buffers that differ. base: copy from the base, or without a base,
            from the first model; first: from the first model that has them. Batch counts are
            never copied: the output has the largest.
    """

    missing: Literal["error", "skip", "base"] = "error"
    mismatch: Literal["error", "skip", "base", "common"] = "error"
    exclude: tuple[str, ...] = ()
    integer: Literal["error", "base", "first"] = "error"


RULES = (
    *("layers", "stack", "rules", "masks", "head_depth", "tokenizer"),
    *Exceptions.model_fields,
)
# Fields that do not apply to a merge into an adapter.
_OF_MODELS = ("base", "config_from", "chat_template", *RULES)
# Those that do not apply to weight signatures, whose models have different roles.
_NOT_OF_SIGNATURES = ("layers", "stack", "rules", "tokenizer", "missing", "mismatch", "integer")
_NOT_OF_PATCHES = ("masks", "dtype", "config_from", "chat_template")


class MergeFile(Exceptions):
    """One merge, in stockpot's own format."""

    also_called = {  # noqa: RUF012 (a class variable of Section)
        "base_model": "base",
        "parameters": "options",
        "out_dtype": "dtype",
        "random_seed": "seed",
    }

    method: str = Field(description="merge method; `stockpot merge --methods` lists them")
    models: list[ModelEntry | str] | None = Field(None, min_length=1, description="merged whole")
    layers: list[LayersEntry] = Field(
        [], description="instead of models: the source of the output's layers, from the first on"
    )
    stack: str | None = Field(
        None, description="for layers of models with several stacks: part of their tensors' names"
    )
    base: str | None = Field(None, description="what the models were fine-tuned from")
    options: dict[str, Value] = Field({}, description="the method's own")
    head_depth: Literal[0, 1] = Field(
        1, description="depth of heads and final norms: that of the last layer; 0: as in mergekit"
    )
    dtype: Dtype | None = Field(None, description="of the output; null: as the base's or first's")
    rules: list[RuleSection] = Field(
        [], description="tensors that are merged in another way; the first that matches applies"
    )
    masks: Masks | None = Field(
        None,
        description="for pruned models of different masks: the weights that are kept, of any, all, "
        "or the first model; none: all weights, also those that were 0",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of random methods")
    tokenizer: TokenizerSection | None = Field(
        None,
        description="tokens of the output, for models with other vocabularies; null: rows of equal "
        "number are merged, and the tokenizer is copied",
    )
    chat_template: str | None = Field(
        None, description="auto: that of most models; or a text in Jinja, or the path of a file"
    )
    output: Literal["model", "adapter", "patch"] = Field(
        "model",
        description="adapter: merge adapters with each other, without a base; patch: write weight "
        "signatures into a small file, to add them to models later",
    )
    bits: int = Field(8, ge=1, le=8, description="of each entry of a patch")
    rank: int | None = Field(
        None, ge=1, description="maximum rank of the merged adapter; null: exact"
    )
    core_space: bool = Field(
        False,
        description="merge adapters as small matrices in common bases, by any method that needs no "
        "data (Panariello et al. 2025)",
    )
    config_from: str | None = Field(
        None, description="the model whose config and tokenizer are copied; null: base or first"
    )

    _ignored: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="before")
    @classmethod
    def _unequal_tokenizers_are_merged(cls, content: Any) -> Any:
        if isinstance(content, dict) and "equal_tokenizers" in content:
            raise ValueError(
                "equal_tokenizers was replaced: write `tokenizer: {source: union}`, which merges "
                "equal vocabularies as they are, and others token by token"
            )
        return content

    @field_validator("method")
    @classmethod
    def _method_is_of_tensors(cls, method: str) -> str:
        if method == "concat":
            raise ValueError(
                "concat puts nets side by side, which takes their code; use it in an experiment: "
                "params.yaml, soups.N.method"
            )
        return method

    @model_validator(mode="after")
    def _something_is_merged(self) -> MergeFile:
        if self.models is None and not self.layers:
            raise ValueError("models: is required, got nothing")
        if self.models is not None and self.layers:
            raise ValueError("layers: replace models; remove one of them")
        if self.stack is not None and not self.layers:
            raise ValueError(f"stack says where layers are from, got {self.stack!r} without layers")
        return self

    @model_validator(mode="after")
    def _options_may_differ_between_models(self) -> MergeFile:
        listed = [*self.entries, *(model for part in self.layers for model in part.models)]
        given = {name for entry in listed for name in entry.options}
        able = METHODS[self.method].per_model if given else []
        for name in sorted(given.difference(able)):
            raise ValueError(
                f"models: options of single models of {self.method} must be of {able}, got "
                f"{name!r}; options of all models are given next to models"
            )
        return self

    @model_validator(mode="after")
    def _an_adapter_is_a_sum_of_adapters(self) -> MergeFile:
        if self.output != "adapter":
            if self.rank is not None:
                raise ValueError(f"rank applies only to `output: adapter`, got {self.rank}")
            if self.core_space:
                raise ValueError("core_space applies only to `output: adapter`; remove it")
            return self
        if self.method not in _EXACT_WITHOUT_BASE and not self.core_space:
            raise ValueError(
                f"method must be one of {list(_EXACT_WITHOUT_BASE)} for `output: adapter`, got "
                f"{self.method!r}; set core_space: true for others, or merge onto the base"
            )
        for field in _OF_MODELS:
            if self._sets(field):
                raise ValueError(f"{field} is not for `output: adapter`; remove one of them")
        return self

    @model_validator(mode="after")
    def _roles_are_those_of_signatures(self) -> MergeFile:
        if self.output != "patch" and self._sets("bits"):
            raise ValueError(f"bits applies only to `output: patch`, got {self.bits}")
        is_patch = self.output == "patch"
        inapplicable = (*_NOT_OF_SIGNATURES, *(_NOT_OF_PATCHES if is_patch else ()))
        refused = [field for field in inapplicable if self._sets(field)]
        check_roles(
            self.method,
            [*self.entries, *(part for layer in self.layers for part in layer.models)],
            is_patch=is_patch,
            has_base=self.base is not None,
            refused=refused[0] if refused else None,
        )
        return self

    @property
    def entries(self) -> list[ModelEntry]:
        """The models with their coefficients, in the order of the merge.

        With `layers`, each source model once.
        """
        paths = dict.fromkeys(source.path for part in self.layers for source in part.models)
        listed = [
            ModelEntry(path=entry) if isinstance(entry, str) else entry
            for entry in self.models or paths
        ]
        return in_order(listed)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Notes on what the file says and is ignored, as in mergekit."""
        return self._ignored

    def ignoring(self, notes: Iterable[str]) -> MergeFile:
        """Return the same merge with such notes."""
        copy = self.model_copy()
        copy._ignored = tuple(dict.fromkeys(notes))
        return copy

    @property
    def exceptions(self) -> dict[str, Any]:
        """The fields on layers, single tensors and unequal models, where they are set."""
        content = self.model_dump(mode="json", include=set(RULES))
        return {field: content[field] for field in RULES if self._sets(field)}

    def _sets(self, field: str) -> bool:
        return bool(getattr(self, field) != type(self).model_fields[field].default)


def value_at(value: Value, name: str, depth: float) -> Scalar:
    """Evaluate a value of a merge file for one tensor.

    Args:
        value: a plain value; or a list of numbers, interpolated linearly over depth; or rules, of
            which the first applies whose filter is part of the name (`*` is a wildcard).
        name: the tensor's name.
        depth: of its layer, 0 for the first and 1 for the last.

    Raises:
        InputError: no rule applies to this tensor.
    """
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], dict):
        for rule in value:
            assert isinstance(rule, dict)
            if fnmatchcase(name, f"*{rule.get('filter', '*')}*"):
                return value_at(rule["value"], name, depth)
        raise InputError(
            f"tensor {name!r}: no filter of {value} matches it; end with a rule without a filter"
        )
    anchors = [float(anchor) for anchor in value if not isinstance(anchor, dict)]
    place = depth * (len(anchors) - 1)
    left = min(math.floor(place), len(anchors) - 2) if len(anchors) > 1 else 0
    right = min(left + 1, len(anchors) - 1)
    return anchors[left] + (place - left) * (anchors[right] - anchors[left])
