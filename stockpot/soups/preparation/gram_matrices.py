"""The Gram matrices of the inputs of a model's layers (Jin et al. 2023, RegMean)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stockpot.soups.preparation.option_checks import check_whole_numbers
from stockpot.soups.preparation.protocol import Preparation
from stockpot.soups.preparation.train_examples import train_batches
from stockpot.workloads.passes import empty_model
from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.responses import observed


@dataclass(frozen=True, slots=True)
class GramMatrices(Preparation):
    """Estimation of the Gram matrices of layer inputs.

    Attributes:
        n: number of examples of train; all, if there are fewer.
        max_in: largest number of layer inputs for a full matrix, which takes 8 bytes times its
            square; layers with more inputs get a diagonal.

    Raises:
        ValueError: an option is out of its range.
    """

    n: int = 1000
    max_in: int = 16384

    def __post_init__(self) -> None:
        check_whole_numbers(n=self.n, max_in=self.max_in)

    def compute(
        self,
        workload: Workload,
        weights: Mapping[str, Tensor],
        *,
        seed: int,
        device: str,
        base: Mapping[str, Tensor] | None = None,  # noqa: ARG002 (the protocol's)
    ) -> dict[str, Tensor]:
        """Compute the matrices of a model's linear and convolutional layers, in eval mode.

        Args:
            workload: provides the inputs; labels are not used.
            weights: the model's state dict.
            seed: seed of the choice of examples.
            device: where it is computed.
            base: unused.

        Returns:
            For each weight the mean over the layer's inputs x of x times x transposed, float64:
            (G, D, D) for G groups of D inputs (1 but for grouped convolutions), or its diagonal
            (G, D); on the CPU. For a layer that is called several times, the mean is over all
            calls. Left out: convolutions that are not 2-d, that pad with something other than
            zeros or by name, and layers that are never called.

        Source: the paper's inner products of inputs; divided by the number of inputs, as in the
        authors' code, so that models count equally. Padded positions of a text are included.
        """
        model = empty_model(workload, device)
        model.load_state_dict(weights)
        layers = layers_by_weight(model, self.is_measured)
        batches = train_batches(workload, self.n, seed=seed, device=device)
        return self.means(workload, model, layers, batches)

    def means(
        self,
        workload: Workload,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        batches: Iterable[Batch],
    ) -> dict[str, Tensor]:
        """Return the mean of the statistics of some layers, by the names of their weights.

        Layers that are not called have none.
        """
        sums: dict[str, Tensor] = {}
        num_rows: dict[str, int] = {}

        def add(name: str, layer: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
            own, count = self.sum_over_inputs(layer, inputs, outputs)
            sums[name] = sums[name] + own if name in sums else own
            num_rows[name] = num_rows.get(name, 0) + count

        with torch.no_grad(), observed(layers, add):
            for batch in batches:
                workload.forward(model, batch)
        return {name: (total / num_rows[name]).cpu() for name, total in sums.items()}

    def is_measured(self, module: nn.Module) -> bool:
        """Return whether a layer's weight gets statistics."""
        return is_linear(module)

    def sum_over_inputs(
        self, layer: nn.Module, inputs: Tensor, _outputs: Tensor
    ) -> tuple[Tensor, int]:
        """Return the sum of the statistics over a layer's inputs, and the number of these."""
        rows = layer_inputs(layer, inputs).double()  # (G, R, D)
        own = rows.mT @ rows if rows.shape[-1] <= self.max_in else rows.square().sum(dim=1)
        return own, rows.shape[1]


def layers_by_weight(
    model: nn.Module, is_measured: Callable[[nn.Module], bool]
) -> dict[str, nn.Module]:
    """Return the layers of a model that are measured, by the names of their weights."""
    return {
        f"{name}.weight".removeprefix("."): module
        for name, module in model.named_modules()
        if is_measured(module)
    }


def layer_inputs(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return the vectors that a layer multiplies its weights by.

    Args:
        module: an `nn.Linear`, or an `nn.Conv2d` that pads with zeros.
        inputs: its argument in the forward pass.

    Returns:
        (G, R, D): for each of G groups, R vectors of D inputs, in the order of the weights.
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


def is_linear(module: nn.Module) -> bool:
    """Return whether a layer multiplies inputs by weights, in a form that `layer_inputs` knows."""
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)
