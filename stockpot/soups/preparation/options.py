"""What a preparation is, and which options of a soup are its own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from stockpot.errors import InputError, unknown_name
from stockpot.merging.registry import METHODS
from stockpot.soups.preparation.registry import PREPARATIONS

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.workloads.protocol import Workload


class Preparation(Protocol):
    """A frozen dataclass of plain options, which are refused where they cannot be."""

    def compute(
        self, workload: Workload, weights: Mapping[str, Tensor], *, seed: int, device: str
    ) -> dict[str, Tensor]:
        """Compute what is kept of a model, from inputs of train alone; on the CPU.

        Args:
            workload: whose train split and forward pass are used.
            weights: the model's state dict.
            seed: of the choice of examples, and of what else is drawn.
            device: where it is computed.
        """
        ...

    def side_information(self, kept: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Return what the merge method is given, by the name of the tensor that it belongs to."""
        ...


def split_options(
    method_name: str, options: Mapping[str, Any]
) -> tuple[Preparation | None, dict[str, Any]]:
    """Build the preparation of a merge method from those of the options that are its own.

    Args:
        method_name: a registered merge method.
        options: of the method and of its preparation, by name.

    Returns:
        The preparation, None for a method without; and the options that are the method's.

    Raises:
        InputError: an option is unknown, or the preparation cannot be made so.
    """
    method = METHODS[method_name]
    if method.side_information is None:
        return None, dict(options)
    kind = PREPARATIONS[method.side_information]
    theirs = inspect.signature(kind).parameters
    for name in options:
        if name not in theirs and name not in method.options:
            unknown = unknown_name("option", name, [*theirs, *method.options])
            raise InputError(f"{method_name}: {unknown}")
    try:
        preparation = kind(**{name: value for name, value in options.items() if name in theirs})
    except ValueError as error:
        raise InputError(f"{method_name}: {error}") from error
    return preparation, {name: value for name, value in options.items() if name not in theirs}


def method_modules(method_name: str) -> tuple[str, ...]:
    """Return the modules of a merge method and of its preparation, for the key of their code."""
    module = METHODS.module_of(method_name)
    if method_name == "linear":  # to look at the others imports torch, which takes a second
        return (module,)
    side = METHODS[method_name].side_information
    return (module,) if side is None else (module, PREPARATIONS.module_of(side))
