"""The fields of a merge file in mergekit's format.

As there, fields that are not known are ignored; here they are listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from stockpot.disk_merging.merge_files.merge_file import Dtype
from stockpot.disk_merging.vocabulary.section import TokenizerSection
from stockpot.yaml_files import Section


def _reference(value: Any) -> Any:
    """Return the short form of a model, `path@revision+adapter`, of the long one with fields."""
    if not isinstance(value, dict) or "model" not in value:
        return value
    parts = [value["model"], *([value["lora"]] if value.get("lora") else [])]
    return "+".join(map(_path, parts))


def _path(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    revision = value.get("revision")
    return f"{value.get('path')}@{revision}" if revision else str(value.get("path"))


def _dtype(value: Any) -> Any:
    return value.removeprefix("torch.") if isinstance(value, str) else value


Reference = Annotated[str, BeforeValidator(_reference)]
"""A model: a path, `path+adapter`, or the same with the fields `model` and `lora`."""

Parameters = Annotated[dict[str, Any], BeforeValidator(lambda value: value or {})]
"""Parameters of a merge method; nothing after the colon means none."""

DtypeName = Annotated[Dtype, BeforeValidator(_dtype)]


class _Lenient(Section, extra="allow"):
    """A section whose unknown fields are ignored, as mergekit ignores them."""


class Model(_Lenient):
    """A model, with the parameters that are its own."""

    model: Reference
    parameters: Parameters = Field({})


class LayersOfModel(Model):
    """Consecutive layers of a model."""

    layer_range: tuple[int, int]


class Slice(_Lenient):
    """Consecutive layers of the output."""

    sources: list[LayersOfModel] = Field(min_length=1)
    parameters: Parameters = Field({})
    base_model: Reference | None = None
    residual_weight: float | None = None


class Module(_Lenient):
    """A part of a multimodal model, such as its vision tower."""

    models: list[Model] | None = None
    slices: list[Slice] | None = None
    parameters: Parameters = Field({})


def _with_references(value: Any) -> Any:
    """Return the section with the short form of each model that it names."""
    if not isinstance(value, dict):
        return value
    tokens = value.get("tokens") or {}
    return value | {
        "source": _reference(value.get("source", "union")),
        "tokens": {name: _with_reference(token) for name, token in tokens.items()}
        if isinstance(tokens, dict)
        else tokens,
    }


def _with_reference(token: Any) -> Any:
    source = token.get("source") if isinstance(token, dict) else None
    if isinstance(source, dict) and "kind" in source:
        model = {"model": _reference(source["model"])} if "model" in source else {}
        return token | {"source": source | model}
    return token if source is None else token | {"source": _reference(source)}


Tokenizer = Annotated[TokenizerSection, BeforeValidator(_with_references)]
"""The tokenizer of the output; models may be named in the long form."""


class Mergekit(_Lenient):
    """The whole file."""

    merge_method: str
    models: list[Model] | None = None
    slices: list[Slice] | None = None
    base_model: Reference | None = None
    parameters: Parameters = Field({})
    dtype: DtypeName | None = None
    out_dtype: DtypeName | None = None
    tokenizer_source: Reference | None = None
    tokenizer: Tokenizer | None = None
    modules: dict[str, Module] | None = None
    chat_template: str | None = None
    random_seed: int | None = None


def unknown_fields(section: Section, place: str = "") -> Iterator[str]:
    """Yield the places of all fields that are not mergekit's."""
    for name in section.model_extra or {}:
        yield f"{place}{name}"
    for name in type(section).model_fields:
        value = getattr(section, name)
        listed = dict(enumerate(value)) if isinstance(value, list) else value
        for key, inner in listed.items() if isinstance(listed, dict) else ():
            if isinstance(inner, Section):
                yield from unknown_fields(inner, f"{place}{name}.{key}.")
