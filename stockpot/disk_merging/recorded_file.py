"""The merge file that is recorded in a pedigree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from stockpot.disk_merging.merge_files.merge_file import RULES, MergeFile

RECIPE_FIELDS = (
    *("method", "options", "seed", "dtype", "output", "rank", "core_space", "bits", "config_from"),
    *RULES,
)


class _RecordedModel(BaseModel):
    """A model in a pedigree: what must be there, whatever the merge."""

    path: str = ""
    merge: _Recorded | None = None
    digest: str

    @model_validator(mode="after")
    def _is_one_model(self) -> Self:
        if bool(self.path) == (self.merge is not None):
            raise ValueError("must have either path or merge")
        return self


class _Recorded(BaseModel):
    """A pedigree: what must be there, whatever the merge."""

    version: str
    method: str
    models: list[_RecordedModel] = Field(min_length=1)
    base: _RecordedModel | None


def recorded_file(pedigree: Mapping[str, Any]) -> MergeFile:
    """Return the merge file that a pedigree records.

    Raises:
        ValueError: it records none.
    """
    _Recorded.model_validate(pedigree)
    base = pedigree["base"]
    file = MergeFile.model_validate(
        {field: pedigree[field] for field in RECIPE_FIELDS if field in pedigree}
        | {
            "models": None if "layers" in pedigree else [*map(_recorded, pedigree["models"])],
            "base": base and (base.get("path") or _recorded(base)),
        }
    )
    if len(file.entries) != len(pedigree["models"]):
        raise ValueError("its layers are of other models than those that it lists")
    return file


def _recorded(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a model in a merge file."""
    return {
        name: recorded_file(value) if name == "merge" else value
        for name, value in model.items()
        if name != "digest" and value is not None
    }
