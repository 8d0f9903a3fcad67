"""Forward passes: outputs and losses of a model on a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import batches_by_length, in_order, num_examples
from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.resident import ResidentBatches
from stockpot.workloads.wide_nets import fit_widths

_BATCH = 1024

BatchResult: TypeAlias = tuple[Tensor, Tensor]
"""The outputs (n, C) and losses (n,) for one batch."""

MapBatches: TypeAlias = Callable[[Callable[[int], BatchResult], range], Iterable[BatchResult]]
"""A function like `map`, over the places of batches; its results are in their order."""

MapParts: TypeAlias = Callable[[Callable[[Tensor], Tensor], Sequence[Tensor]], Iterable[Tensor]]
"""A function like `map`, over the indices of each batch; its results are in their order."""


class Examples:
    """A dataset on a device, for repeated forward passes.

    Attributes:
        targets: the targets of all examples, (N, ...), on the device.
    """

    def __init__(self, workload: Workload, dataset: Dataset[Any], device: str) -> None:
        """Read `dataset` into batches on `device`; one that does not fit is read in each pass."""
        self._workload, self._device = workload, device
        indices = torch.arange(num_examples(dataset))
        self._batch_indices = batches_by_length(dataset, indices, _BATCH, device)
        self._batches = ResidentBatches(dataset, self._batch_indices, device)
        self.targets = self.map(lambda batch: batch[-1])

    @property
    def nbytes(self) -> int:
        """The memory that the examples take."""
        return self._batches.nbytes + self.targets.nbytes

    def map(self, compute: Callable[[Batch], Tensor]) -> Tensor:
        """Apply a function batch by batch on the device; results in the order of examples."""
        return self._joined([compute(batch) for batch in self._batches])

    def outputs(self, model: nn.Module) -> Tensor:
        """Return the model's outputs (N, C), on the device."""
        with torch.inference_mode():
            return self.map(lambda batch: self._workload.forward(model, batch))

    def outputs_of(
        self, model: nn.Module, indices: Tensor, map_parts: MapParts | None = None
    ) -> Tensor:
        """Return the model's outputs (n, C) for the examples at `indices` (n,), ascending.

        Args:
            model: in eval mode, on the device of the examples.
            indices: of the examples.
            map_parts: applies the pass to the batches; None: one after the other.
        """
        batches = batches_by_length(self._batches.dataset, indices, _BATCH, self._device)
        outputs = list((map_parts or map)(partial(self.outputs_of_part, model), batches))
        places = torch.cat(batches).argsort()  # texts are sorted by length
        return torch.cat(outputs)[places.to(outputs[0].device)]

    def outputs_of_part(self, model: nn.Module, indices: Tensor) -> Tensor:
        """Return the model's outputs (n, C) for the examples at `indices` (n,) as one batch."""
        with torch.inference_mode():
            return self._workload.forward(model, self._batches.take(indices))

    def outputs_and_losses(
        self, model: nn.Module, map_batches: MapBatches | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the model's outputs (N, C) and the loss of each example (N,), in one pass.

        Args:
            model: in eval mode, on the device of the examples.
            map_batches: applies the pass to the batches; None: one after the other.
        """
        compute = partial(self.of_batch, model)
        results = (map_batches or map)(compute, range(len(self._batches)))
        outputs, losses = zip(*results, strict=True)
        return self._joined(outputs), self._joined(losses)

    def of_batch(self, model: nn.Module, place: int) -> BatchResult:
        """Return the model's outputs (n, C) and losses (n,) for the examples of one batch."""
        batch = self._batches[place]
        with torch.inference_mode():
            outputs = self._workload.forward(model, batch)
            return outputs, self._workload.loss(outputs, batch)

    def losses(self, outputs: Tensor) -> Tensor:
        """Return the loss of each example (N,) for outputs (N, C)."""
        losses = [
            self._workload.loss(outputs[indices.to(outputs.device)], batch)
            for indices, batch in zip(self._batch_indices, self._batches, strict=True)
        ]
        return self._joined(losses)

    def loss(self, outputs: Tensor) -> float:
        """Return the mean loss for outputs (N, C)."""
        return self.losses(outputs).mean().item()

    def _joined(self, values: Sequence[Tensor]) -> Tensor:
        return in_order(torch.cat(list(values)), self._batch_indices)


def empty_model(workload: Workload, device: str) -> nn.Module:
    """Build a model in eval mode, whose weights are to be replaced."""
    return workload.build_model(seeded_generator(0, "weights")).to(device).eval()


def put_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make `model` use `weights` without copying them; it is as wide as they are."""
    if _has_weights(model, weights):
        return
    fit_widths(model, weights)
    # As a plain dict: in the metadata of a state dict, torch notes that later loads assign as well.
    model.load_state_dict(dict(weights), assign=True)


def _has_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of `model` are already views of these, which were written again."""
    own = model.state_dict(keep_vars=True)
    return own.keys() == weights.keys() and all(
        tensor.data_ptr() == weights[name].data_ptr() != 0
        and (tensor.shape, tensor.stride()) == (weights[name].shape, weights[name].stride())
        and tensor.dtype == weights[name].dtype
        for name, tensor in own.items()
    )


class CalledModel(nn.Module):
    """A model that is called on batches, e.g. by `torch.func.functional_call`."""

    def __init__(self, workload: Workload, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.workload = workload

    def forward(self, batch: Batch) -> Tensor:
        """Return the model's outputs (N, C)."""
        return self.workload.forward(self.model, batch)
