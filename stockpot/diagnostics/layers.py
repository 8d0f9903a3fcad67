"""The layers that diagnostics inspect: modules with their own weights, in running order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.responses import observed


def weighted_layers(
    workload: Workload, net: nn.Module, batch: Batch, *, at_most: int | None = None
) -> dict[str, nn.Module]:
    """Return the layers with weights and one output row per example, in running order.

    Args:
        workload: runs the net.
        net: in eval mode.
        batch: N examples.
        at_most: the number of evenly spaced layers, first and last included; None for all.
    """
    order: dict[str, nn.Module] = {}

    def note(name: str, layer: nn.Module, _inputs: Tensor, outputs: Tensor) -> None:
        if outputs.ndim >= 2 and len(outputs) == len(batch[-1]):
            order[name] = layer

    owners = {
        name: module
        for name, module in net.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    }
    with torch.inference_mode(), observed(owners, note):
        workload.forward(net, batch)
    names = _spread([*order], at_most)
    return {name: order[name] for name in names}


def _spread(names: Sequence[str], at_most: int | None) -> list[str]:
    if at_most is None or len(names) <= at_most:
        return [*names]
    places = torch.linspace(0, len(names) - 1, at_most).round().int().tolist()
    return [names[place] for place in places]
