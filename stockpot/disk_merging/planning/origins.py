"""The source of each input tensor, before it is known whether the model has that tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from stockpot.storage.weights.hub_origins import shown_name
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source

_VAR, _MEAN = "running_var", "running_mean"


@dataclass(frozen=True, slots=True)
class Origin:
    """The source of an input tensor.

    Attributes:
        source: the model.
        name: the tensor's name in that model.
        num_rows: the number of leading rows that are used; None for all.
    """

    source: Source
    name: str
    num_rows: int | None = None

    def read(self) -> Tensor:
        """Return the tensor, a view of the mapped file."""
        stored = self.stored
        return self.source.read_run(self.name, 0, stored.num_elements).view(stored.shape)

    @property
    def exists(self) -> bool:
        """Whether the model has such a tensor."""
        return self.name in self.source.tensors

    @property
    def stored(self) -> StoredTensor:
        """Dtype, shape and position of the tensor."""
        whole = self.source.tensors[self.name]
        if self.num_rows is None:
            return whole
        num_bytes = whole.num_bytes * self.num_rows // max(whole.shape[0], 1)
        return replace(whole, shape=(self.num_rows, *whole.shape[1:]), num_bytes=num_bytes)

    @property
    def model(self) -> str:
        """The model's name in messages."""
        return shown_name(self.source.path)

    @property
    def bytes_to_compute(self) -> int:
        """The memory that reading any element takes if all are computed; else 0."""
        return self.source.bytes_to_compute(self.name)

    @property
    def is_variance(self) -> bool:
        """Whether it is a BatchNorm variance."""
        return self.name.endswith(_VAR)

    @property
    def mean(self) -> Origin:
        """The mean that belongs to a BatchNorm variance."""
        return replace(self, name=self.name.removesuffix(_VAR) + _MEAN)


@dataclass(frozen=True, slots=True)
class TensorInputs:
    """One output tensor and the sources of its inputs.

    Attributes:
        name: in the output.
        inputs: one per model; once they are matched, one per model that takes part.
        base: the base's tensor; None without a base, and where a tensor is copied.
        members: indices of the models that take part, once they are matched; None where a tensor
            is copied.
        extra_rows: the tensor whose rows beyond those of the inputs are copied; None for none.
        note: the exception that was made; empty for none.
    """

    name: str
    inputs: tuple[Origin, ...]
    base: Origin | None = None
    members: tuple[int, ...] | None = ()
    extra_rows: Origin | None = None
    note: str = ""

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The inputs, then the base if there is one."""
        return self.inputs if self.base is None else (*self.inputs, self.base)

    def changed(self, change: Callable[[Origin], Origin]) -> TensorInputs:
        """Return the same inputs with each origin changed."""
        inputs = tuple(change(origin) for origin in self.inputs)
        return replace(self, inputs=inputs, base=self.base and change(self.base))

    @property
    def reference(self) -> Origin:
        """The tensor that sets the output's shape and dtype: the base's, else the first present."""
        present = [origin for origin in self.origins if origin.exists]
        return self.base if self.base is not None and self.base.exists else present[0]


def same_named(sources: Sequence[Source], base: Source | None) -> list[TensorInputs]:
    """List the tensors of all models, grouped by name.

    Args:
        sources: M models.
        base: the model that they were fine-tuned from; None without a base.

    Returns:
        The tensors of the first model in its order, then those that only others have.
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
