"""The merge file of `stockpot merge`: the models and how they are merged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, PrivateAttr, Tag, model_validator

from stockpot.disk_merging.merge_files.exceptions import Exceptions
from stockpot.disk_merging.merge_files.model_entry import ModelEntry, check_own_options
from stockpot.disk_merging.merge_files.output_rules import (
    check_adapter_merge,
    checked_inner,
    checked_method,
)
from stockpot.disk_merging.merge_files.output_section import OutputSection, check_outputs
from stockpot.disk_merging.merge_files.rule_section import RuleSection
from stockpot.disk_merging.merge_files.values import Value
from stockpot.disk_merging.signatures.signature_roles import check_roles, in_order
from stockpot.disk_merging.vocabulary.section import TokenizerSection
from stockpot.merging.masks import Masks
from stockpot.storage.keys import content_key
from stockpot.yaml_files import Section

Dtype = Literal["float64", "float32", "float16", "bfloat16"]


Inner = Annotated["MergeFile", AfterValidator(checked_inner)]


class NestedEntry(ModelEntry):
    """One model that is merged: a model on disk, or the result of another merge."""

    path: str = Field("", description=ModelEntry.model_fields["path"].description)
    merge: Inner | None = Field(None, description="instead of path: a merge, not written")

    @model_validator(mode="after")
    def _is_one_model(self) -> Self:
        if bool(self.path) == (self.merge is not None):
            found = "both" if self.path else "neither"
            raise ValueError(f"must have either path or merge, got {found}")
        if self.merge is not None and self.role == "patch":
            raise ValueError("role: a merge is no patch; write the patch first, and name it")
        return self

    @property
    def key(self) -> str:
        """Identifies the model in a merge file; equal merges have the same key."""
        content = self.merge and self.merge.model_dump(mode="json")
        return f"merge {content_key(**content)}" if content else self.path


class Nested(Section):
    """The result of a merge, in place of the path of a model."""

    merge: Inner


def _form(value: Any) -> str:
    return "section" if isinstance(value, dict | Section) else "text"


_Path = Annotated[str, Field(min_length=1), Tag("text")]
# Of a mapping, the errors are those of a mapping alone.
EntryOrPath = Annotated[Annotated[NestedEntry, Tag("section")] | _Path, Discriminator(_form)]
NestedOrPath = Annotated[Annotated[Nested, Tag("section")] | _Path, Discriminator(_form)]


class LayerSource(NestedEntry):
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

    method: Annotated[str, AfterValidator(checked_method)] = Field(
        description="merge method; `stockpot merge --methods` lists them"
    )
    models: list[EntryOrPath] | None = Field(None, min_length=1, description="merged whole")
    layers: list[LayersEntry] = Field(
        [], description="instead of models: the source of the output's layers, from the first on"
    )
    stack: str | None = Field(
        None, description="for layers of models with several stacks: part of their tensors' names"
    )
    base: NestedOrPath | None = Field(None, description="what the models were fine-tuned from")
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
    config_from: NestedOrPath | None = Field(
        None, description="the model whose config and tokenizer are copied; null: base or first"
    )

    outputs: list[OutputSection] = Field([], description="several, from one reading of the models")
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
        check_own_options(self.method, listed)
        return self

    @model_validator(mode="after")
    def _an_adapter_is_a_sum_of_adapters(self) -> MergeFile:
        if self.output == "adapter":
            refused = (
                ["merge"]
                if any(one.merge for one in self.entries)
                else [f for f in _OF_MODELS if self._sets(f)]
            )
            check_adapter_merge(self.method, refused, core_space=self.core_space)
        elif self.rank is not None:
            raise ValueError(f"rank applies only to `output: adapter`, got {self.rank}")
        elif self.core_space:
            raise ValueError("core_space applies only to `output: adapter`; remove it")
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

    @model_validator(mode="after")
    def _outputs_are_of_this_merge(self) -> MergeFile:
        num_models = len(self.models) if self.models else None
        check_outputs(self.outputs, self.output, self.method, num_models)
        return self

    @property
    def entries(self) -> list[NestedEntry]:
        """The models with their coefficients, in the order of the merge.

        With `layers`, each source model once.
        """
        sources = {one.key: one for part in self.layers for one in part.models}
        whole = [NestedEntry(path=one.path, merge=one.merge) for one in sources.values()]
        return in_order([as_entry(one) for one in self.models or whole])

    @property
    def base_entry(self) -> NestedEntry | None:
        """The base like a model; None without one."""
        return None if self.base is None else as_entry(self.base)

    @property
    def config_entry(self) -> NestedEntry | None:
        """The model in `config_from` like others; None without."""
        return None if self.config_from is None else as_entry(self.config_from)

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


def as_entry(model: NestedEntry | Nested | str) -> NestedEntry:
    """Return a model in any of its forms as an entry of `models`."""
    if isinstance(model, NestedEntry):
        return model
    if isinstance(model, Nested):
        return NestedEntry(merge=model.merge)
    return NestedEntry(path=model)


NestedEntry.model_rebuild()
Nested.model_rebuild()
