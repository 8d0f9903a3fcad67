"""Activation matching: permute one net's units so that they respond like another's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from stockpot.errors import InputError
from stockpot.merging.states import State
from stockpot.soups.alignment.permutations import Spec, check_spec, split_axis
from stockpot.soups.alignment.repair import Channels, loaded
from stockpot.workloads.responses import observed, unit_rows

B = TypeVar("B")
_CONSTANT = 1e-12  # smaller variances, relative to the mean square, are rounding


@dataclass(slots=True)
class _Moments:
    """Sums over the activations of n units per net, of two nets at one place, in float64."""

    both: Channels = field(default_factory=Channels)  # (2, n)
    products: Tensor | float = 0.0  # (n, n)

    def add(self, first: Tensor, second: Tensor) -> None:
        """Add the activations of both nets on one batch, both (n, N)."""
        self.both.add(torch.stack([first, second]))
        self.products = self.products + first @ second.T

    def correlations(self) -> Tensor:
        """Return the correlations (n, n) of units of both nets; 0 if one unit is constant."""
        means, variances = self.both.means_and_variances()
        is_constant = variances <= _CONSTANT * (variances + means.square())
        scales = torch.where(is_constant, 0.0, variances.clamp(min=1e-300).rsqrt())
        covariances = torch.as_tensor(self.products) / self.both.count - torch.outer(*means)
        return scales[0][:, None] * covariances * scales[1]


def match_activations(
    model: nn.Module,
    pair: tuple[State, State],
    spec: Spec,
    forward: Callable[[nn.Module, B], object],
    batches: Sequence[B],
) -> dict[str, Tensor]:
    """Find the permutations of the second net that match its activations to those of the first.

    Each permutation maximizes the sum of correlations of matched units, over all inputs and
    outputs of linear layers and convolutions that contain these units. The optimum is exact and
    independent of starts and orders.

    Args:
        model: the architecture; it is not changed.
        pair: the reference net, and the net to permute.
        spec: their permutation spec.
        forward: runs a net on a batch, e.g. the workload's.
        batches: train examples, not augmented.

    Returns:
        Permutations for the second net, int64, on the CPU.

    Raises:
        InputError: the spec does not fit, there are no batches, or no linear layer or
            convolution reads or writes the units of a permutation.

    Source: Li et al. 2015, https://arxiv.org/abs/1511.07543, section 3.1, with the assignment
    of maximal sum (as Ainsworth et al. 2022, https://arxiv.org/abs/2209.04836, section 3.1, with
    inner products). Correlations are summed over all places where the units are used, so that a
    residual stream is matched over its whole depth.
    """
    sizes = check_spec(spec, pair[0])
    if not batches:
        raise InputError("match: batches must be at least 1, got 0")
    nets = [loaded(model, state) for state in pair]
    moments: dict[str, dict[int, _Moments]] = {name: {} for name in sizes}
    for batch in batches:
        first, second = (_activations(net, spec, forward, batch) for net in nets)
        for name, responses in first.items():
            for place, both in enumerate(zip(responses, second[name], strict=True)):
                moments[name].setdefault(place, _Moments()).add(*both)
    return {name: _assign(name, list(places.values())) for name, places in moments.items()}


def _assign(name: str, places: Sequence[_Moments]) -> Tensor:
    """Return the matched unit of the second net for each unit of the first; (n,)."""
    if not places:
        raise InputError(
            "match: units must be read or written by a linear layer or a convolution, got "
            f"{name!r}; match the weights instead"
        )
    total = torch.stack([moments.correlations() for moments in places]).sum(dim=0)
    return torch.from_numpy(linear_sum_assignment(total.cpu().numpy(), maximize=True)[1])


@torch.no_grad()
def _activations(
    net: nn.Module, spec: Spec, forward: Callable[[nn.Module, B], object], batch: B
) -> dict[str, list[Tensor]]:
    """Return the activations (n, N) of the units of each permutation, in the order of calls."""
    seen: dict[str, list[Tensor]] = {}

    def record(name: str, layer: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
        written, read = spec[f"{name}.weight".removeprefix(".")][:2]
        for axis, values in ((read, inputs), (written, outputs)):
            if axis is not None:
                permutation, block = split_axis(axis)
                rows = unit_rows(layer, values)  # (n * block, N)
                seen.setdefault(permutation, []).append(rows.reshape(len(rows) // block, -1))

    layers = {
        name: layer
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, _ConvNd) and not layer.transposed)
    }
    with observed(layers, record):
        forward(net, batch)
    return seen
