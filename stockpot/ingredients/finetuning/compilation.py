"""A model compiled by torch for the steps of a run (Ansel et al. 2024, "PyTorch 2").

https://docs.pytorch.org/assets/pytorch2-2.pdf. A compiled step rounds differently from an eager
one, but deterministically.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Compiler

_MOST_GRAPHS = 16  # per run: one per batch shape, mode and set of trained parameters


def compiled(model: nn.Module, compiler: Compiler) -> nn.Module:
    """Return the compiled model, which shares parameters and mode with the model.

    Each shape gets its own graph. With dynamic shapes, torch compiles a general graph at the second
    shape, so a resumed run would use other graphs than an uninterrupted one.
    """
    if compiler == "none":
        return model
    return cast("nn.Module", torch.compile(model, backend=compiler, dynamic=False))


@contextmanager
def compiling(compiler: Compiler) -> Iterator[None]:
    """Context in which a compiled model is called; its first call compiles it.

    Raises:
        InputError: the model cannot be compiled, or its batches have too many shapes. Falling back
            to an eager step would change the result's bits unpredictably.
    """
    if compiler == "none":
        yield
        return
    from torch._dynamo import config as tracing
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
    from torch._inductor import config as generating

    torch.compiler.reset()  # graphs of earlier runs count against the limit
    limit = tracing.patch(recompile_limit=_MOST_GRAPHS, fail_on_recompile_limit_hit=True)
    # Dropout draws as in an eager model; a worker process starts no other processes.
    eager_draws = generating.patch(fallback_random=True, compile_threads=1)
    try:
        with limit, eager_draws:
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
