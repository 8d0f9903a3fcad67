"""The stack of numbered layers that a merge file slices; multimodal models have several stacks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from stockpot.errors import InputError
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import is_after_layers, is_head, layer_of, stack_of

# mergekit's names of modules that are no part of the names of their tensors.
_MODULES = {
    "text_decoder": r"^(?!.*(vis|image|audio|speech|encoder))",
    "vision_tower": r"vis|image",
    "vision_model": r"vis|image",
}


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack of numbered layers.

    Attributes:
        prefix: of its tensors' names, up to the number: `model.layers.`.
        is_only: whether the model has no other.
    """

    prefix: str
    is_only: bool

    @classmethod
    def of(cls, model: Source, wanted: str | None) -> Stack:
        """Return the stack of a model that is sliced.

        Args:
            model: its tensors' names are read.
            wanted: a part of the names of the stack's tensors, or mergekit's name of the module;
                None for the only stack.

        Raises:
            InputError: there is none, or there are several.
        """
        stacks = sorted({s for name in model.tensors if (s := stack_of(name)) is not None})
        pattern = _MODULES.get(wanted or "", re.escape(wanted or ""))
        # A whole name comes first: `layers` is also a part of `vision.layers`.
        exact = [stack for stack in stacks if stack.rstrip(".") == wanted]
        found = exact or [stack for stack in stacks if re.search(pattern, stack)]
        if len(found) != 1 and wanted is None:
            hint = "; name one by stack" if stacks else ""
            raise InputError(
                f"{model.path}: layers can be taken from a model with one stack of layers, got "
                f"{stacks or 'none'}{hint}"
            )
        if len(found) != 1:
            raise InputError(
                f"{model.path}: stack must name one of {stacks}, got {wanted!r}, which names "
                f"{found or 'none'}"
            )
        return cls(found[0], len(stacks) == 1)

    def layer_of(self, name: str) -> int | None:
        """Return the number of a tensor's layer; None for a tensor outside of this stack."""
        return layer_of(name) if stack_of(name) == self.prefix else None

    def num_layers(self, names: Iterable[str]) -> int:
        """Return one more than the highest number."""
        layers = (self.layer_of(name) for name in names)
        return max((layer for layer in layers if layer is not None), default=-1) + 1

    def is_before_end(self, name: str) -> bool:
        """Return whether a tensor outside of the stack goes with its first layers.

        All do but heads and final norms; those of other parts of the model go with the first too.
        """
        if self.is_only:
            return not is_after_layers(name)
        parent = self.prefix.rstrip(".").rpartition(".")[0]
        is_own = stack_of(name) is None and (name.startswith(parent) or is_head(name))
        return not (is_own and is_after_layers(name))
