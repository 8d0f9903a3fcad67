"""One of several outputs of a merge file: what differs from the others."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from stockpot.disk_merging.merge_files.values import Value, Varying
from stockpot.merging.signature_layers import SIGNATURES
from stockpot.yaml_files import Name, Section


class OutputSection(Section):
    """One output; what it does not say is as in the rest of the file."""

    name: Name = Field(description="of its folder, in the place of the merge")
    coefficients: list[Varying] | None = Field(
        None, description="one per model, instead of those in models"
    )
    options: dict[str, Value] = Field({}, description="in addition to those of all outputs")
    seed: int | None = Field(None, ge=0, lt=2**32, description="instead of that of all outputs")

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, name: str) -> str:
        if name.endswith(".safetensors"):
            raise ValueError(f"an output is a folder, whose name has no suffix, got {name!r}")
        return name


def check_outputs(
    outputs: Sequence[OutputSection], output: str, method: str, num_models: int | None
) -> None:
    """Check several outputs against the rest of the file.

    Args:
        outputs: none, or several.
        output: what is written.
        method: of the merge.
        num_models: the number of models; None if layers are merged.

    Raises:
        ValueError: with the first rule that is broken.
    """
    if outputs and (output != "model" or method == SIGNATURES):
        found = f"output: {output}" if output != "model" else f"method {method}"
        raise ValueError(f"outputs are models that are merged, got {found}; remove one of them")
    names = [one.name for one in outputs]
    for number, one in enumerate(outputs):
        place = f"outputs.{number}"
        if one.name in names[:number]:
            raise ValueError(f"{place}.name must differ from those of others, got {one.name!r}")
        if one.coefficients is None:
            continue
        if num_models is None:
            raise ValueError(f"{place}.coefficients are of models, got layers; remove them")
        if len(one.coefficients) != num_models:
            raise ValueError(
                f"{place}.coefficients must be {num_models}, one per model, got "
                f"{len(one.coefficients)}"
            )
