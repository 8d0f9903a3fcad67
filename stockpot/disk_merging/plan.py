"""The plan of a merge on disk: one entry per output tensor, from headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch

from stockpot.disk_merging.layer_slices import LayerSlice, stacked
from stockpot.disk_merging.origins import Origin, TensorInputs, same_named
from stockpot.disk_merging.tied_heads import with_tied_heads
from stockpot.disk_merging.unequal_models import Exceptions, Matched, check_none_missing, matched
from stockpot.errors import InputError
from stockpot.merging.methods.passthrough import passthrough
from stockpot.merging.recipe import Recipe, RecipeOf
from stockpot.merging.tensor_rules import statistics_shares
from stockpot.merging.whole_model import check_scopes
from stockpot.storage.weights.output import TensorType
from stockpot.storage.weights.sources import Source

_COPY = Recipe.of(passthrough, (1.0,))
_NO_EXCEPTIONS = Exceptions()


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One tensor of the output.

    Attributes:
        name: in the output.
        inputs: the input tensors, one per model that takes part.
        base: the base's tensor; None without a base.
        recipe: how it is merged.
        type: dtype and shape in the output.
        extra_rows: the tensor whose rows beyond those of the inputs are copied; None for none.
        note: the exception that was made; empty for none.
    """

    name: str
    inputs: tuple[Origin, ...]
    base: Origin | None
    recipe: Recipe
    type: TensorType
    extra_rows: Origin | None = None
    note: str = ""

    @property
    def num_elements(self) -> int:
        """The number of elements that are merged."""
        return self.inputs[0].stored.num_elements

    @property
    def num_input_bytes(self) -> int:
        """The number of bytes that are read for it."""
        return sum(origin.stored.num_bytes for origin in self.origins)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The inputs, then the base if there is one."""
        return self.inputs if self.base is None else (*self.inputs, self.base)

    @property
    def is_weight(self) -> bool:
        """Whether a merge method applies: integers and BatchNorm statistics are not weights."""
        return self.type[0].is_floating_point and "running_" not in self.name

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
    exceptions: Exceptions = _NO_EXCEPTIONS,
    slices: Sequence[LayerSlice] = (),
) -> list[TensorPlan]:
    """Plan a merge from headers alone.

    Args:
        sources: M models.
        base: the model that they were fine-tuned from; None if the method needs none.
        recipe_of: returns the recipe of an output tensor by name, with one coefficient per model;
            in the layers of a slice, per model of that slice.
        dtype: of the floating-point tensors in the output; None keeps that of the base, or
            without a base, of the first model.
        exceptions: the rules for models that do not match.
        slices: the source of each layer; empty to merge layers of equal index.

    Raises:
        InputError: tensors are missing, their shapes or kinds differ, or a method needs data.
    """
    models = [*sources, *([] if base is None else [base])]
    named = stacked(slices, sources, base) if slices else same_named(sources, base)
    listed = with_tied_heads(named)
    check_none_missing(listed, models, exceptions)
    plans = [
        _planned(inputs, chosen, recipe_of(inputs.name), dtype)
        for inputs in listed
        if (chosen := matched(inputs, exceptions)) is not None
    ]
    for plan in plans:
        _check_kinds(plan)
        _check_statistics(plan)
    check_scopes({plan.name: plan.recipe for plan in plans if plan.is_weight})
    return plans


def _planned(
    inputs: TensorInputs, chosen: Matched, recipe: Recipe, dtype: torch.dtype | None
) -> TensorPlan:
    reference = chosen.inputs[0] if chosen.members is None else inputs.reference
    own = reference.source.output_dtype(reference.name)
    return TensorPlan(
        inputs.name,
        chosen.inputs,
        chosen.base,
        _of_members(_without_data(recipe), chosen.members),
        (dtype if dtype and own.is_floating_point else own, reference.stored.shape),
        chosen.extra_rows,
        chosen.note,
    )


def _of_members(recipe: Recipe, members: tuple[int, ...] | None) -> Recipe:
    """Restrict a recipe to the models that take part; None stands for a copy."""
    if members is None:
        return _COPY
    if len(members) == len(recipe.coefficients):
        return recipe
    ids = recipe.model_ids or tuple(map(str, range(len(recipe.coefficients))))
    return replace(
        recipe,
        coefficients=tuple(recipe.coefficients[member] for member in members),
        model_ids=tuple(ids[member] for member in members),
    )


def _without_data(recipe: Recipe) -> Recipe:
    """Return the recipe; refuse methods that need more than weights."""
    if recipe.method_itself.side_information is not None:
        raise InputError(
            f"{recipe.method}: needs data, which a merge of files does not have; use it in an "
            "experiment: params.yaml, soups.N.method"
        )
    return recipe


def _check_kinds(plan: TensorPlan) -> None:
    kinds = {origin.stored.dtype.is_floating_point for origin in plan.origins}
    if len(kinds) > 1:
        raise InputError(f"tensor {plan.name!r}: integer in some models, floating-point in others")


def _check_statistics(plan: TensorPlan) -> None:
    """Refuse BatchNorm statistics that cannot be pooled, before any weight is read."""
    for origin in plan.inputs:
        if origin.is_variance and not origin.mean.exists:
            raise InputError(f"tensor {plan.name!r}: cannot be merged without {origin.mean.name!r}")
    if plan.type[0].is_floating_point and plan.name.endswith(("running_mean", "running_var")):
        statistics_shares(plan.name, plan.recipe.coefficients)
