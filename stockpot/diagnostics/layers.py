"""The layers that diagnostics inspect, and what they read and give in a forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.responses import Callback, observed


def weighted_layers(
    workload: Workload, net: nn.Module, batch: Batch, *, at_most: int | None = None
) -> list[str]:
    """Name the layers with weights of their own and one output row per example, in running order.

    Args:
        workload: runs the net.
        net: in eval mode.
        batch: N examples.
        at_most: the number of evenly spaced layers, first and last included; None for all.
    """
    names: list[str] = []

    def note(name: str, _layer: nn.Module, _inputs: Tensor, outputs: Tensor) -> None:
        if name not in names and outputs.ndim >= 2 and len(outputs) == len(batch[-1]):
            names.append(name)

    owners = [name for name, module in net.named_modules() if [*module.parameters(recurse=False)]]
    watched_outputs(workload, net, batch, owners, note)
    if at_most is None or len(names) <= at_most:
        return names
    places = torch.linspace(0, len(names) - 1, at_most).round().int().tolist()
    return [names[place] for place in places]


def watched_outputs(
    workload: Workload, net: nn.Module, batch: Batch, layers: Sequence[str], note: Callback
) -> Tensor:
    """Return a net's outputs on a batch; `note` is called each time a named layer has run."""
    modules = dict(net.named_modules())
    with torch.inference_mode(), observed({name: modules[name] for name in layers}, note):
        return workload.forward(net, batch)
