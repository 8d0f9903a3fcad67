"""Second moments of what each layer's weight is multiplied by (Sun et al. 2025, CAT Merging)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from stockpot.soups.preparation.gram_matrices import GramMatrices, is_linear
from stockpot.workloads.responses import unit_rows


@dataclass(frozen=True, slots=True)
class LayerFeatures(GramMatrices):
    """Gram matrices of layer inputs, and the mean squares of what scales of norms multiply.

    Attributes and errors are those of `GramMatrices`. For the scale of a normalization layer with
    D units, the mean square of its normalized inputs: (D,), float64.
    """

    def is_measured(self, module: nn.Module) -> bool:
        """Return whether a layer's weight gets statistics: linear layers, and norms."""
        return is_linear(module) or _is_norm(module)

    def sum_over_inputs(
        self, layer: nn.Module, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor, int]:
        """Return the sum of the statistics over a layer's inputs, and the number of these."""
        if is_linear(layer):
            return GramMatrices.sum_over_inputs(self, layer, inputs, outputs)
        rows = unit_rows(layer, _normalized(layer, inputs) - outputs)  # (D, N)
        return rows.square().sum(dim=1), rows.shape[1]


def _is_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    is_scale = isinstance(weight, nn.Parameter) and weight.ndim == 1
    return is_scale and "norm" in type(module).__name__.lower()


def _normalized(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return the layer's outputs if its scale were larger by 1.

    Outputs are linear in the scale, so the difference is what it multiplies, also where the scale
    is 0, or is stored as the difference from 1.
    """
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    layer.weight = nn.Parameter(weight.detach() + 1)
    try:
        outputs: Tensor = layer.forward(inputs)  # without hooks
    finally:
        layer.weight = weight
    return outputs
