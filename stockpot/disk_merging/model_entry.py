"""A model in a merge file: its path, its coefficient, its options and its role."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from stockpot.yaml_files import Section


def _with_value(rule: dict[Any, Any]) -> dict[Any, Any]:
    if "value" not in rule:
        raise ValueError(f"a filter must have a value, got {rule}")
    value, wanted = rule["value"], rule.get("filter", "*")
    is_text = isinstance(value, str)
    if not is_text and not _are_numbers(value if isinstance(value, list) else [value]):
        raise ValueError(
            f"the value of a filter must be one value, or numbers over depth, got {value!r}"
        )
    if not isinstance(wanted, str):
        raise ValueError(  # noqa: TRY004 (pydantic expects it)
            f"a filter must be a part of names, got {wanted!r}"
        )
    return rule


def _with_number(rule: dict[Any, Any]) -> dict[Any, Any]:
    if isinstance(rule["value"], str):
        raise ValueError(  # noqa: TRY004 (pydantic expects it)
            f"the value of a filter must be a number, got {rule['value']!r}"
        )
    return rule


def _are_numbers(values: list[Any]) -> bool:
    return bool(values) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    )


Rule = Annotated[dict[Literal["filter", "value"], Any], AfterValidator(_with_value)]
"""A value for tensors whose names contain the filter; without one, for all others."""

Anchors = Annotated[list[float], Field(min_length=1)]
"""Numbers over the layers' depth."""

Rules = Annotated[list[Rule], Field(min_length=1)]

Varying = (
    float
    | Anchors
    | Annotated[list[Annotated[Rule, AfterValidator(_with_number)]], Field(min_length=1)]
)
"""A number; or a list of numbers over the layers' depth; or a list of filter and value."""

Role = Literal["target", "clean", "corrupted", "patch"]
"""For weight signatures: the model that is changed; those that were trained on clean and on
corrupted data; a file of signatures."""


class ModelEntry(Section):
    """One model that is merged."""

    also_called = {"model": "path", "weight": "coefficient", "parameters": "options"}  # noqa: RUF012

    path: str = Field(
        description="a folder, a .safetensors file, a file of PyTorch weights; or model+adapter"
    )
    coefficient: Varying = Field(
        1.0, description="a number; or a list over the layers' depth; or a list of filter and value"
    )
    options: dict[str, Varying] = Field(
        {}, description="options of the method that may differ between models, such as density"
    )
    role: Role | None = Field(None, description="for method weight_signatures: what the model is")

    @model_serializer(mode="wrap")
    def _without_empty_options(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out options where there are none, so that older pedigrees do not change."""
        content: dict[str, Any] = handler(self)
        return content if self.options else {n: v for n, v in content.items() if n != "options"}
