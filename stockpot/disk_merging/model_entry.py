"""A model in a merge file: its path, its coefficient and its role."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from stockpot.yaml_files import Section

Rule = dict[Literal["filter", "value"], Any]

Role = Literal["target", "clean", "corrupted", "patch"]
"""For weight signatures: the model that is changed; those that were trained on clean and on
corrupted data; a file of signatures."""


class ModelEntry(Section):
    """One model that is merged."""

    path: str = Field(
        description="a folder, a .safetensors file, a file of PyTorch weights; or model+adapter"
    )
    coefficient: float | list[float] | list[Rule] = Field(
        1.0, description="a number; or a list over the layers' depth; or a list of filter and value"
    )
    role: Role | None = Field(None, description="for method weight_signatures: what the model is")
