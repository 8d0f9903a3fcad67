"""The loop over tensors: merges state dicts in memory, and checkpoint files tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.registry import METHODS
from stockpot.merging.tensor_rules import merge_running_vars, merge_tensor

_VAR, _MEAN = "running_var", "running_mean"


def merge_states(
    states: Sequence[Mapping[str, Tensor]], coefficients: Sequence[float], method: str
) -> dict[str, Tensor]:
    """Merge state dicts that are in memory; inputs stay as they are.

    Raises:
        InputError: names, shapes or values do not allow it; the message names the tensor.
    """
    names = _common_names([state.keys() for state in states])
    return {
        name: _merge_named(name, [state.__getitem__ for state in states], coefficients, method)
        for name in names
    }


def merge_files(
    paths: Sequence[Path], coefficients: Sequence[float], method: str
) -> dict[str, Tensor]:
    """Merge safetensors files, with one tensor of every model in memory at a time.

    Raises:
        InputError: names, shapes or values do not allow it; the message names the tensor.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, framework="pt")) for path in paths]
        names = _common_names([file.keys() for file in files])
        return {
            name: _merge_named(name, [file.get_tensor for file in files], coefficients, method)
            for name in names
        }


def _merge_named(
    name: str,
    readers: Sequence[Callable[[str], Tensor]],
    coefficients: Sequence[float],
    method: str,
) -> Tensor:
    """Merge one tensor of all models; a BatchNorm variance also reads the means it belongs to."""
    tensors = [read(name) for read in readers]
    if name.endswith(_VAR):
        means = [read(name.removesuffix(_VAR) + _MEAN) for read in readers]
        return merge_running_vars(name, tensors, means, coefficients)
    return merge_tensor(name, tensors, coefficients, METHODS[method].merge)


def _common_names(names_per_model: Sequence[Iterable[str]]) -> list[str]:
    """Return the names, which all models must share, in the first one's order."""
    first = list(names_per_model[0])
    for position, names in enumerate(names_per_model):
        differ = sorted(set(first) ^ set(names))
        if differ:
            raise InputError(
                f"model {position}: tensors {differ[:3]} are not in both it and model 0; "
                "merge models of one base"
            )
    return first
