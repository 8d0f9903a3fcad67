"""What a merge on disk does for each tensor, planned from headers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import common_names
from stockpot.merging.recipe import Recipe
from stockpot.merging.tensor_rules import check_shapes
from stockpot.weight_files import Source, StoredTensor, TensorType

_VAR, _MEAN = "running_var", "running_mean"

RecipeOf = Callable[[str], Recipe]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an input tensor comes from.

    Attributes:
        source: the model.
        name: the tensor's name in it.
    """

    source: Source
    name: str

    def read(self) -> Tensor:
        """Return the tensor; its memory is the file's."""
        return self.source.read(self.name)

    @property
    def stored(self) -> StoredTensor:
        """What the tensor is, and where it lies."""
        return self.source.tensors[self.name]

    @property
    def is_variance(self) -> bool:
        """Whether it is a BatchNorm variance."""
        return self.name.endswith(_VAR)

    @property
    def mean(self) -> Origin:
        """The mean that a BatchNorm variance is around."""
        return replace(self, name=self.name.removesuffix(_VAR) + _MEAN)


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One tensor of the output.

    Attributes:
        name: in the output.
        inputs: where it comes from, one a model.
        base: the base's tensor; None without a base.
        recipe: how it is merged.
        type: dtype and shape in the output.
    """

    name: str
    inputs: tuple[Origin, ...]
    base: Origin | None
    recipe: Recipe
    type: TensorType

    @property
    def num_elements(self) -> int:
        """How many elements it has."""
        return self.inputs[0].stored.num_elements

    @property
    def num_input_bytes(self) -> int:
        """How many bytes are read for it."""
        return sum(origin.stored.num_bytes for origin in self.origins)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The inputs and, if there is one, the base."""
        return self.inputs if self.base is None else (*self.inputs, self.base)

    @property
    def working_dtype(self) -> torch.dtype:
        """The widest dtype of its origins; for weights, float32 at least."""
        dtypes = [origin.stored.dtype for origin in self.origins]
        if self.type[0].is_floating_point:  # torch does not promote 8-bit floats
            dtypes = [torch.float32 if dtype.itemsize < 4 else dtype for dtype in dtypes]
        return reduce(torch.promote_types, dtypes)


def plan_merge(
    sources: Sequence[Source],
    base: Source | None,
    recipe_of: RecipeOf,
    dtype: torch.dtype | None = None,
) -> list[TensorPlan]:
    """Plan a merge of same-named tensors from headers alone.

    Args:
        sources: M models.
        base: what they were fine-tuned from; None if the method needs none.
        recipe_of: how the tensor of a name is merged; M coefficients.
        dtype: of the floating-point tensors in the output; None keeps the base's, or else the
            first model's.

    Raises:
        InputError: tensors are missing, or their shapes or kinds differ.
    """
    models = [*sources, *([] if base is None else [base])]
    plans = []
    for name in common_names([model.tensors.keys() for model in models]):
        stored = [model.tensors[name] for model in models]
        check_shapes(name, [tensor.shape for tensor in stored])
        kinds = {tensor.dtype.is_floating_point for tensor in stored}
        if len(kinds) > 1:
            raise InputError(f"tensor {name!r}: integers in some models, not in others")
        first = Origin(sources[0], name)
        if first.is_variance and first.mean.name not in sources[0].tensors:
            raise InputError(f"tensor {name!r}: cannot be merged without {first.mean.name!r}")
        own = stored[-1 if base is not None else 0].dtype
        plans.append(
            TensorPlan(
                name,
                tuple(Origin(source, name) for source in sources),
                None if base is None else Origin(base, name),
                recipe_of(name),
                (dtype if dtype and own.is_floating_point else own, stored[0].shape),
            )
        )
    return plans
