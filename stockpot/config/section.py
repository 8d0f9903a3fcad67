"""What every section of params.yaml has in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True
    )

    @model_validator(mode="before")
    @classmethod
    def _no_number_is_true_or_false(cls, content: Any) -> Any:
        """Python takes `true` for 1, and YAML takes a careless `yes` for `true`."""
        fields = cls.model_fields if isinstance(content, dict) else {}
        for name, field in fields.items():
            if isinstance(content.get(name), bool) and field.annotation is not bool:
                found = str(content[name]).lower()
                raise ValueError(f"{name} must not be true or false, got {found}")
        return content


Fraction = Annotated[float, Field(gt=0, lt=1)]

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=60,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$",
        description="letters, digits, spaces, '.', '_' and '-'",
    ),
]
