"""A model compiled by torch for the steps of a run (Ansel et al. 2024, "PyTorch 2").

https://docs.pytorch.org/assets/pytorch2-2.pdf. A compiled step rounds otherwise than a plain one,
and always the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Compiler

_MOST_GRAPHS = 16  # of one run: one a shape of a batch, mode, and set of trained parameters


def compiled(model: nn.Module, compiler: Compiler) -> nn.Module:
    """Return what to call in a model's place; it has the same parameters and modes.

    Each shape has a graph of its own: if one were made for all shapes once a second one was seen,
    a run that is continued would compute with another graph than one that was not.
    """
    if compiler == "none":
        return model
    return cast("nn.Module", torch.compile(model, backend=compiler, dynamic=False))


@contextmanager
def compiling(compiler: Compiler) -> Iterator[None]:
    """Be where a compiled model is called; nothing is compiled before its first call.

    Raises:
        InputError: the model cannot be compiled, or its batches have too many shapes. A plain step
            in its place would give other bits, as if by chance.
    """
    if compiler == "none":
        yield
        return
    from torch._dynamo import config as tracing
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
    from torch._inductor import config as generating

    torch.compiler.reset()  # the graphs of other runs count against the limit
    limit = tracing.patch(recompile_limit=_MOST_GRAPHS, fail_on_recompile_limit_hit=True)
    # Dropout draws what it draws in a plain model; a worker process starts no others.
    plain = generating.patch(fallback_random=True, compile_threads=1)
    try:
        with limit, plain:
            yield
    except FailOnRecompileLimitHit as error:
        raise InputError(
            f"compiler: batches must have few shapes, got more than {_MOST_GRAPHS}; set it to none"
        ) from error
    except TorchDynamoException as error:
        reason = " ".join(str(error).partition("\n\n")[0].split())
        raise InputError(
            f"compiler: {compiler} must be able to compile the model, got {reason!r}; "
            "set it to none"
        ) from error
