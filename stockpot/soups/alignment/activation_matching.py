"""Activation matching: permute one net's units so that they respond like another's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from stockpot.errors import InputError
from stockpot.merging.states import State
from stockpot.soups.alignment.permutations import Spec, check_spec, split_axis
from stockpot.workloads.responses import observed, unit_rows

B = TypeVar("B")
_Responses: TypeAlias = dict[str, list[Tensor]]
_CONSTANT = 1e-12  # smaller variances, relative to the mean square, are rounding


@dataclass(slots=True)
class _Moments:
    """Sums over the activations of n units of each of two nets at one place, in float64."""

    count: int = 0
    totals: Tensor | float = 0.0  # (2, n)
    squares: Tensor | float = 0.0  # (2, n)
    products: Tensor | float = 0.0  # (n, n)

    def add(self, first: Tensor, second: Tensor) -> None:
        """Add the activations of both nets on one batch, both (n, N)."""
        both = torch.stack([first, second])
        self.count += both.shape[2]
        self.totals = self.totals + both.sum(dim=2)
        self.squares = self.squares + both.square().sum(dim=2)
        self.products = self.products + first @ second.T

    def correlations(self) -> Tensor:
        """Return the correlations (n, n) of units of both nets; 0 if one unit is constant."""
        means = torch.as_tensor(self.totals) / self.count
        mean_squares = torch.as_tensor(self.squares) / self.count
        variances = mean_squares - means.square()
        is_constant = variances <= _CONSTANT * mean_squares
        scales = torch.where(is_constant, 0.0, variances.clamp(min=1e-300).rsqrt())
        covariances = torch.as_tensor(self.products) / self.count - torch.outer(*means)
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
    recorders = [_Recorder(model, state, spec) for state in pair]
    moments: dict[str, dict[int, _Moments]] = {name: {} for name in sizes}
    for batch in batches:
        first, second = (recorder.run(forward, batch) for recorder in recorders)
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


class _Recorder:
    """A net that records the inputs and outputs of its layers."""

    def __init__(self, model: nn.Module, state: State, spec: Spec) -> None:
        self._net = copy.deepcopy(model).eval()
        self._net.load_state_dict(state)
        self._spec = spec
        self._seen: _Responses = {}
        self._layers = {
            name: layer
            for name, layer in self._net.named_modules()
            if isinstance(layer, nn.Linear) or (isinstance(layer, _ConvNd) and not layer.transposed)
        }

    @torch.no_grad()
    def run(self, forward: Callable[[nn.Module, B], object], batch: B) -> _Responses:
        """Return the activations (n, N) of the units of each permutation, in the order of calls."""
        self._seen = {}
        with observed(self._layers, self._record):
            forward(self._net, batch)
        return self._seen

    def _record(self, name: str, layer: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
        written, read = self._spec[f"{name}.weight".removeprefix(".")][:2]
        for axis, values in ((read, inputs), (written, outputs)):
            if axis is not None:
                permutation, block = split_axis(axis)
                rows = unit_rows(layer, values)  # (n * block, N)
                seen = self._seen.setdefault(permutation, [])
                seen.append(rows.reshape(len(rows) // block, -1))
