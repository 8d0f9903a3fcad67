"""Where the tensors that are merged come from, before it is known whether they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source

_VAR, _MEAN = "running_var", "running_mean"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an input tensor comes from.

    Attributes:
        source: the model.
        name: the tensor's name in it.
        num_rows: how many of its rows count, from the first; None for all.
    """

    source: Source
    name: str
    num_rows: int | None = None

    def read(self) -> Tensor:
        """Return the tensor; its memory is the file's."""
        stored = self.stored
        return self.source.read_run(self.name, 0, stored.num_elements).view(stored.shape)

    @property
    def is_there(self) -> bool:
        """Whether the model has such a tensor."""
        return self.name in self.source.tensors

    @property
    def stored(self) -> StoredTensor:
        """What the tensor is, and where it lies."""
        whole = self.source.tensors[self.name]
        if self.num_rows is None:
            return whole
        num_bytes = whole.num_bytes * self.num_rows // max(whole.shape[0], 1)
        return replace(whole, shape=(self.num_rows, *whole.shape[1:]), num_bytes=num_bytes)

    @property
    def model(self) -> str:
        """What the model is called, in a message."""
        return self.source.path.name

    @property
    def is_variance(self) -> bool:
        """Whether it is a BatchNorm variance."""
        return self.name.endswith(_VAR)

    @property
    def mean(self) -> Origin:
        """The mean that a BatchNorm variance is around."""
        return replace(self, name=self.name.removesuffix(_VAR) + _MEAN)


@dataclass(frozen=True, slots=True)
class TensorInputs:
    """One tensor of the output, and where its inputs would be.

    Attributes:
        name: in the output.
        inputs: one a model.
        base: the base's tensor; None without a base.
        note: what is out of the ordinary; empty for nothing.
    """

    name: str
    inputs: tuple[Origin, ...]
    base: Origin | None = None
    note: str = ""

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The inputs and, if there is one, the base."""
        return self.inputs if self.base is None else (*self.inputs, self.base)

    @property
    def reference(self) -> Origin:
        """What the output follows in shape and dtype: the base, or else the first that is there."""
        present = [origin for origin in self.origins if origin.is_there]
        return self.base if self.base is not None and self.base.is_there else present[0]


def same_named(sources: Sequence[Source], base: Source | None) -> list[TensorInputs]:
    """List the tensors of all models, each merged with those of its name.

    Args:
        sources: M models.
        base: what they were fine-tuned from; None without a base.

    Returns:
        Those of the first model in its order, then what only others have.
    """
    models = [*sources, *([] if base is None else [base])]
    names = dict.fromkeys(name for model in models for name in model.tensors)
    return [
        TensorInputs(
            name,
            tuple(Origin(source, name) for source in sources),
            None if base is None else Origin(base, name),
        )
        for name in names
    ]
