"""A model in a merge file: its path, its coefficient, its options and its role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from stockpot.disk_merging.merge_files.values import Varying
from stockpot.merging.registry import METHODS
from stockpot.yaml_files import Section

Role = Literal["target", "clean", "corrupted", "patch"]
"""For weight signatures: the model that is changed; those that were trained on clean and on
corrupted data; a file of signatures."""


_NOT_SAID = ("options", "path", "merge")


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

    @property
    def key(self) -> str:
        """Identifies the model in a merge file."""
        return self.path

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is empty, so that older pedigrees do not change."""
        content: dict[str, Any] = handler(self)
        return {name: v for name, v in content.items() if v or name not in _NOT_SAID}


def check_own_options(method: str, entries: Sequence[ModelEntry]) -> None:
    """Check that the options of single models may differ between models.

    Raises:
        ValueError: with the first that may not.
    """
    given = {name for entry in entries for name in entry.options}
    able = METHODS[method].per_model if given else []
    for name in sorted(given.difference(able)):
        raise ValueError(
            f"models: options of single models of {method} must be of {able}, got {name!r}; "
            "options of all models are given next to models"
        )
