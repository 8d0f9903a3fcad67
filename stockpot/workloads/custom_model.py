"""Custom models of built-in workloads, built by a function `module:function`."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from stockpot.errors import InputError

if TYPE_CHECKING:
    from torch import Generator, nn


def check_importable(name: str) -> None:
    """Check that the module of `module:function` can be found, without importing it.

    Raises:
        InputError: it cannot, or the name has another form.
    """
    module, _, function = name.partition(":")
    try:
        found = importlib.util.find_spec(module) if module and function else None
    except (ImportError, ValueError):  # ValueError: the module has no __spec__
        found = None
    if found is None:
        raise InputError(
            f"workload.options.model: must be module:function of a module that can be imported, "
            f"got {name!r}; put it in the project's folder or install it"
        )


def build_custom_model(name: str, num_classes: int, generator: Generator) -> nn.Module:
    """Call the function with the number of classes, with torch's global generator seeded.

    Initial weights depend on `generator` alone; the global random state is restored.

    Raises:
        InputError: the module has no such function, or it does not build a torch module.
    """
    import torch
    from torch import nn

    module_name, _, function_name = name.partition(":")
    builder = getattr(importlib.import_module(module_name), function_name, None)
    if builder is None:
        raise InputError(f"workload.options.model: {module_name!r} must have {function_name!r}")
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = builder(num_classes)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"workload.options.model: {name!r} must build a torch module, got {type(model)!r}"
        )
    return model
