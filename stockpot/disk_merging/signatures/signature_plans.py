"""The plan of a merge by weight signatures: which tensors have one, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property

import torch

from stockpot.disk_merging.merge_files.model_entry import ModelEntry
from stockpot.disk_merging.planning.origins import Origin
from stockpot.disk_merging.planning.plan import COPY, TensorPlan
from stockpot.disk_merging.signatures.patches import zeros_like
from stockpot.disk_merging.streaming.planned_tensors import runs_of
from stockpot.errors import InputError
from stockpot.merging.masks import Masks
from stockpot.merging.methods.weight_signatures import signature_size
from stockpot.merging.recipe import Recipe
from stockpot.merging.signature_layers import signature_tensors
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import forward_order


@dataclass(frozen=True)
class SignaturePlans:
    """Plans of the tensors of one merge.

    Attributes:
        entries: the models of the merge file, in their order there.
        sources: the same, opened.
        base: the model that the clean and corrupted ones were trained from; None without one.
        recipe_of: name of a tensor -> its recipe, with one coefficient per entry.
        exclude: patterns of the tensors that have no signature.
    """

    entries: Sequence[ModelEntry]
    sources: Sequence[Source]
    base: Source | None
    recipe_of: Callable[[str], Recipe]
    exclude: Sequence[str]

    def signed(self, num_layers: int | str) -> list[TensorPlan]:
        """Return the plans of the tensors that have a signature, in forward order.

        Only headers are read, unless `num_layers` is `auto`.

        Args:
            num_layers: see `signature_tensors`; of no effect on patches.

        Raises:
            InputError: a model lacks such a tensor, or its shape differs.
        """
        if self._patches:
            names = forward_order({name for patch in self._patches for name in patch.tensors})
            return [self._planned(name) for name in names if not self._is_excluded(name)]
        tensors = self._clean.tensors
        weights = [
            name
            for name, tensor in tensors.items()
            if tensor.dtype.is_floating_point
            and "running_" not in name
            and not self._is_excluded(name)
        ]
        axes = {name: len(tensors[name].shape) for name in forward_order(weights)}
        names = signature_tensors(
            num_layers, axes, lambda name: signature_size(runs_of(self._planned(name)))
        )
        return [self._planned(name) for name in names]

    def copies(self, signed: Sequence[TensorPlan], dtype: torch.dtype | None) -> list[TensorPlan]:
        """Return the plans of all of the target's tensors, the signed ones among them.

        Args:
            signed: the plans of those that have a signature.
            dtype: of floating-point tensors in the output; None for the target's own.
        """
        by_name = {plan.name: plan for plan in signed}
        target = self._target
        plans = []
        for name, tensor in target.tensors.items():
            own = target.output_dtype(name)
            type_ = (dtype if dtype and own.is_floating_point else own, tensor.shape)
            copied = TensorPlan(
                name=name, inputs=(Origin(target, name),), members=None, recipe=COPY, type=type_
            )
            plans.append(replace(by_name.get(name, copied), type=type_))
        return plans

    def _planned(self, name: str) -> TensorPlan:
        """Return the plan of a tensor with a signature: target, clean model, those that have it."""
        recipe = self.recipe_of(name)
        coefficients = recipe.coefficients[-len(self._signing) :]
        chosen = [n for n, source in enumerate(self._signing) if name in source.tensors]
        if not self._patches:
            chosen = [*range(len(self._signing))]  # a model that lacks it is an error
        signing = [self._signing[n] for n in chosen]
        inputs = tuple(Origin(source, name) for source in (self._target, self._clean, *signing))
        base = None if self.base is None else Origin(self.base, name)
        _check_same(inputs if base is None else (*inputs, base))
        own = (1.0, 0.0, *(coefficients[n] for n in chosen))
        return TensorPlan(
            name=name,
            inputs=inputs,
            base=base,
            members=tuple(range(len(inputs))),
            recipe=Recipe(
                recipe.method, own, recipe.options, masks=recipe.masks or self._default_masks
            ),
            type=(self._target.output_dtype(name), inputs[0].stored.shape),
        )

    @property
    def _patches(self) -> list[Source]:
        return self._with_role("patch")

    @property
    def _signing(self) -> list[Source]:
        return self._patches or self._with_role("corrupted")

    @cached_property
    def _clean(self) -> Source:
        return zeros_like(self._patches) if self._patches else self._with_role("clean")[0]

    @property
    def _target(self) -> Source:
        """The model that is changed; of a patch, which is for any, the clean one in its place."""
        return (self._with_role("target") or [self._clean])[0]

    @property
    def _default_masks(self) -> Masks | None:
        # The zeros of a patch and of its clean model are no mask.
        return "none" if self._patches else None

    def _with_role(self, role: str) -> list[Source]:
        pairs = zip(self.entries, self.sources, strict=True)
        return [source for entry, source in pairs if entry.role == role]

    def _is_excluded(self, name: str) -> bool:
        return any(fnmatchcase(name, f"*{pattern}*") for pattern in self.exclude)


def _check_same(origins: Sequence[Origin]) -> None:
    """Refuse a tensor that a model lacks, that has another shape there, or that is no weight.

    Raises:
        InputError: with the tensor and the first such model.
    """
    clean = origins[1]  # whose tensors are chosen
    hint = "signatures are of nets of one architecture; choose fewer num_layers, or exclude it"
    for origin in origins:
        path = origin.source.path
        if not origin.exists:
            raise InputError(
                f"tensor {origin.name!r}: {path} has no such tensor, got it in "
                f"{clean.source.path} alone; {hint}"
            )
        if origin.stored.shape != clean.stored.shape:
            raise InputError(
                f"tensor {origin.name!r}: {path} has shape {origin.stored.shape}, "
                f"{clean.source.path} has {clean.stored.shape}; {hint}"
            )
        if not origin.stored.dtype.is_floating_point:
            raise InputError(f"tensor {origin.name!r}: {path} has integers, expected weights")
