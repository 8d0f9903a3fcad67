"""What a merge on disk does for each tensor, planned from headers alone."""

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
_AS_THEY_ARE = Exceptions()


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One tensor of the output.

    Attributes:
        name: in the output.
        inputs: where it comes from, one a model that takes part.
        base: the base's tensor; None without a base.
        recipe: how it is merged.
        type: dtype and shape in the output.
        kept: whose rows beyond those of the inputs are kept; None for none.
        note: what is out of the ordinary; empty for nothing.
    """

    name: str
    inputs: tuple[Origin, ...]
    base: Origin | None
    recipe: Recipe
    type: TensorType
    kept: Origin | None = None
    note: str = ""

    @property
    def num_elements(self) -> int:
        """How many elements are merged."""
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
    def is_weight(self) -> bool:
        """Whether a method merges it: integers and statistics of BatchNorm are no weights."""
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
    exceptions: Exceptions = _AS_THEY_ARE,
    slices: Sequence[LayerSlice] = (),
) -> list[TensorPlan]:
    """Plan a merge from headers alone.

    Args:
        sources: M models.
        base: what they were fine-tuned from; None if the method needs none.
        recipe_of: how the tensor of a name in the output is merged; a coefficient a model, of a
            slice's models in the layers of a slice.
        dtype: of the floating-point tensors in the output; None keeps the base's, or else the
            first model's.
        exceptions: what is done where models do not match.
        slices: from which models the layers come; empty to merge each with those of its number.

    Raises:
        InputError: tensors are missing, their shapes or kinds differ, or a method takes data.
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
        chosen.kept,
        chosen.note,
    )


def _of_members(recipe: Recipe, members: tuple[int, ...] | None) -> Recipe:
    """Return the recipe for the models that take part; that of a copy for None."""
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
    """Return the recipe, whose method must do with weights."""
    if recipe.method_itself.side_information is not None:
        raise InputError(
            f"{recipe.method}: takes data, of which a merge of files has none; use it in an "
            "experiment: params.yaml, soups.N.method"
        )
    return recipe


def _check_kinds(plan: TensorPlan) -> None:
    kinds = {origin.stored.dtype.is_floating_point for origin in plan.origins}
    if len(kinds) > 1:
        raise InputError(f"tensor {plan.name!r}: integers in some models, not in others")


def _check_statistics(plan: TensorPlan) -> None:
    """Refuse BatchNorm statistics that cannot be pooled, before anything is read."""
    for origin in plan.inputs:
        if origin.is_variance and not origin.mean.is_there:
            raise InputError(f"tensor {plan.name!r}: cannot be merged without {origin.mean.name!r}")
    if plan.type[0].is_floating_point and plan.name.endswith(("running_mean", "running_var")):
        statistics_shares(plan.name, plan.recipe.coefficients)
