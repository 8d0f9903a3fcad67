"""The Gram matrices of the inputs of a model's layers (Jin et al. 2023, RegMean)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stockpot.soups.preparation.option_checks import check_whole_number
from stockpot.soups.preparation.train_examples import train_batches
from stockpot.workloads.passes import empty_model
from stockpot.workloads.protocol import Workload


@dataclass(frozen=True, slots=True)
class GramMatrices:
    """How the inputs of layers are measured.

    Attributes:
        n: number of examples of train; all, where there are fewer.
        max_in: the largest number of inputs of a layer whose whole matrix is kept, which takes
            8 bytes times its square; of a larger one the diagonal is.

    Raises:
        ValueError: an option is out of its range.
    """

    n: int = 1000
    max_in: int = 16384

    def __post_init__(self) -> None:
        check_whole_number("n", self.n)
        check_whole_number("max_in", self.max_in)

    def compute(
        self, workload: Workload, weights: Mapping[str, Tensor], *, seed: int, device: str
    ) -> dict[str, Tensor]:
        """Measure the inputs of the linear and convolutional layers of a model, in eval mode.

        Args:
            workload: whose inputs, without labels, are used.
            weights: the model's state dict.
            seed: of the choice of examples.
            device: where it is computed.

        Returns:
            For each weight the mean over the layer's inputs x of x times x transposed, float64:
            (G, D, D) for G groups of D inputs (1 but for grouped convolutions), or its diagonal
            (G, D); on the CPU. A layer that is called several times has one mean over all
            calls. Convolutions other than 2-d ones, those whose padding is a name or not of
            zeros, and layers that were never called have none.

        Source: the paper's inner products of inputs; divided by the number of inputs, as in the
        authors' code, so that models count equally. Padded positions of a text count as others.
        """
        model = empty_model(workload, device)
        model.load_state_dict(weights)
        sums: dict[str, Tensor] = {}
        num_rows: dict[str, int] = {}

        def add(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
            rows = layer_inputs(module, inputs[0]).double()  # (G, R, D)
            own = rows.mT @ rows if rows.shape[-1] <= self.max_in else rows.square().sum(dim=1)
            sums[name] = sums[name] + own if name in sums else own
            num_rows[name] = num_rows.get(name, 0) + rows.shape[1]

        for name, module in model.named_modules():
            if _is_measured(module):
                weight = f"{name}.weight".removeprefix(".")
                module.register_forward_pre_hook(
                    lambda module, inputs, weight=weight: add(weight, module, inputs)
                )
        with torch.no_grad():
            for batch in train_batches(workload, self.n, seed=seed, device=device):
                workload.forward(model, batch)
        return {name: (total / num_rows[name]).cpu() for name, total in sums.items()}

    def side_information(self, kept: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the matrices as they are."""
        return kept


def layer_inputs(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a layer multiplies its weights by.

    Args:
        module: an `nn.Linear`, or an `nn.Conv2d` that pads with zeros.
        inputs: what it is called with.

    Returns:
        (G, R, D): for each of G groups R inputs of D numbers, in the order of the weights.
    """
    if isinstance(module, nn.Conv2d):
        assert not isinstance(module.padding, str)
        columns = functional.unfold(
            inputs.reshape(-1, *inputs.shape[-3:]),
            module.kernel_size,
            module.dilation,
            module.padding,
            module.stride,
        )  # (N, G D, places)
        grouped = columns.view(len(columns), module.groups, -1, columns.shape[-1])
        return grouped.permute(1, 0, 3, 2).flatten(1, 2)
    return inputs.reshape(1, -1, inputs.shape[-1])


def _is_measured(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)
