"""Names, shapes and dtypes of the tensors of a workload's model, which checkpoints must match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from stockpot.seeding import seeded_generator
from stockpot.storage.keys import content_key
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source
from stockpot.workloads.protocol import Workload

_NOWHERE = Path("the workload's model")


@dataclass(frozen=True, slots=True)
class ModelForm:
    """The tensors of a model, without their values.

    Attributes:
        tensors: shape and dtype of each tensor of the state dict, by name.
        tied: for each tensor that is a second name of another one, the first name.
    """

    tensors: Mapping[str, StoredTensor]
    tied: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Digest of names, shapes and dtypes: 20 hex digits."""
        described = {
            name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in self.tensors.items()
        }
        return content_key(tensors=described, tied=dict(self.tied))

    def as_source(self) -> Source:
        """Return the model as an adapter's base whose header can be read."""
        return Source(_NOWHERE, (), self.tensors)


def form_of(workload: Workload) -> ModelForm:
    """Return the form of a workload's model; built without memory if its code allows that."""
    state = _build(workload).state_dict(keep_vars=True)
    first: dict[int, str] = {}
    tied = {
        name: first[id(tensor)]
        for name, tensor in state.items()
        if first.setdefault(id(tensor), name) != name
    }
    tensors = {
        name: StoredTensor(_NOWHERE, tensor.dtype, tuple(tensor.shape), 0, tensor.nbytes)
        for name, tensor in state.items()
    }
    return ModelForm(tensors, tied)


def _build(workload: Workload) -> nn.Module:
    generator = seeded_generator(0, "weights")
    try:
        with torch.device("meta"):
            return workload.build_model(generator)
    except Exception:  # noqa: BLE001 (a model's code may need values, and then raise anything)
        return workload.build_model(generator)
