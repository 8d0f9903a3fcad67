"""Initial weights that depend on a generator alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Generator, nn
from torch.nn.modules.batchnorm import _BatchNorm

Net = TypeVar("Net", bound=nn.Module)


def initialised(make: Callable[[], Net], generator: Generator) -> Net:
    """Build a net of linear, convolution and BatchNorm layers with weights from `generator`.

    Weights follow He et al. 2015 (https://arxiv.org/abs/1502.01852), with a normal distribution;
    biases are 0, and BatchNorm layers are the identity.

    Args:
        make: builds the net; its own initialisation is discarded.
        generator: on the CPU.
    """
    with torch.device("meta"):  # torch's own initialisation would draw from the global generator
        net = make()
    net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.reset_parameters()
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
            else:
                nn.init.zeros_(parameter)
    return net
