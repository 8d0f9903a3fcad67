"""The plan of a merge on disk: one entry per output tensor, from headers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import reduce

import torch

from stockpot.disk_merging.merge_files.exceptions import Exceptions
from stockpot.disk_merging.planning.layer_slices import Sliced, stacked
from stockpot.disk_merging.planning.origins import TensorInputs, same_named
from stockpot.disk_merging.planning.tied_heads import with_tied_heads
from stockpot.disk_merging.planning.unequal_models import (
    check_excluded,
    check_none_missing,
    matched,
)
from stockpot.disk_merging.vocabulary.aligned import aligned
from stockpot.disk_merging.vocabulary.rows import Rows
from stockpot.errors import InputError, at_place
from stockpot.merging.methods.passthrough import passthrough
from stockpot.merging.recipe import Recipe, RecipeOf
from stockpot.merging.tensor_rules import statistics_shares
from stockpot.merging.whole_model import check_scopes
from stockpot.storage.weights.shards import TensorType
from stockpot.storage.weights.sources import Source

COPY = Recipe.of(passthrough, (1.0,))
"""The recipe of a tensor that is copied from one model."""

_NO_EXCEPTIONS = Exceptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlan(TensorInputs):
    """One tensor of the output, and how it is merged.

    Attributes:
        recipe: of the models that take part.
        type: dtype and shape in the output.
    """

    recipe: Recipe
    type: TensorType

    @property
    def num_elements(self) -> int:
        """The number of elements that are merged."""
        return self.inputs[0].stored.num_elements

    @property
    def row(self) -> int | None:
        """The number of entries of a row, if parts of the tensor must be of whole rows."""
        return self.recipe.row(self.inputs[0].stored.shape)

    @property
    def num_input_bytes(self) -> int:
        """The number of bytes that are read for it."""
        return sum(origin.stored.num_bytes for origin in self.origins)

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

    @property
    def reads_stored(self) -> bool:
        """Whether the method takes the entries as they are stored, of at least 16 bits."""
        return (
            self.recipe.method_itself.is_sum
            and self.working_dtype == torch.float32
            and all(origin.stored.dtype.itemsize > 1 for origin in self.origins)
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The layers and tokens of the output, where they differ from those of its models.

    Attributes:
        sliced: the source of each layer; None to merge layers of equal index.
        rows: where those of embeddings come from, in the models and the base; None to merge rows
            of equal index.
    """

    sliced: Sliced | None = None
    rows: Rows | None = None


_LIKE_THE_MODELS = Layout()


def plan_merge(
    sources: Sequence[Source],
    base: Source | None,
    recipe_of: RecipeOf,
    dtype: torch.dtype | None = None,
    exceptions: Exceptions = _NO_EXCEPTIONS,
    layout: Layout = _LIKE_THE_MODELS,
) -> list[TensorPlan]:
    """Plan a merge from headers alone.

    Args:
        sources: M models; if they are sliced, each once, in the order in which the slices name
            them.
        base: the model that they were fine-tuned from; None if the method needs none.
        recipe_of: returns the recipe of an output tensor by name, with one coefficient per model;
            if they are sliced, per model of the entry.
        dtype: of the floating-point tensors in the output; None keeps that of the base, or
            without a base, of the first model.
        exceptions: the rules for models that do not match.
        layout: the layers and tokens of the output.

    Raises:
        InputError: tensors are missing, their shapes or kinds differ, or a method needs data.
    """
    models = [*sources, *([] if base is None else [base])]
    named = stacked(layout.sliced, sources, base) if layout.sliced else same_named(sources, base)
    listed = with_tied_heads(named)
    if not listed:
        raise InputError(f"{sources[0].path}: has no tensors, nor have the other models")
    check_excluded([inputs.name for inputs in named], exceptions)
    check_none_missing(listed, exceptions)
    if layout.rows is not None:
        listed = [aligned(inputs, layout.rows, models) for inputs in listed]
    plans = [
        _planned(chosen, recipe_of(inputs.name), dtype)
        for inputs in listed
        if (chosen := matched(inputs, exceptions)) is not None
    ]
    for plan in plans:
        _check(plan)
    check_scopes({plan.name: plan.recipe for plan in plans if plan.is_weight})
    return plans


def _planned(chosen: TensorInputs, recipe: Recipe, dtype: torch.dtype | None) -> TensorPlan:
    reference = chosen.extra_rows or chosen.reference
    own = reference.source.output_dtype(reference.name)
    return TensorPlan(
        **{field.name: getattr(chosen, field.name) for field in fields(chosen)},
        recipe=_of_members(recipe, chosen.members),
        type=(dtype if dtype and own.is_floating_point else own, reference.stored.shape),
    )


def _of_members(recipe: Recipe, members: tuple[int, ...] | None) -> Recipe:
    """Restrict a recipe to the models that take part; None stands for a copy."""
    return COPY if members is None else recipe.of_members(members)


def _check(plan: TensorPlan) -> None:
    """Refuse a tensor that cannot be merged, before any weight is read."""
    if plan.recipe.method_itself.side_information is not None:
        raise InputError(
            f"{plan.recipe.method}: needs data, which a merge of files does not have; use it in an "
            "experiment: params.yaml, soups.N.method"
        )
    if len({origin.stored.dtype.is_floating_point for origin in plan.origins}) > 1:
        raise InputError(f"tensor {plan.name!r}: integer in some models, floating-point in others")
    for origin in plan.inputs:
        if origin.is_variance and not origin.mean.exists:
            raise InputError(f"tensor {plan.name!r}: cannot be merged without {origin.mean.name!r}")
    if plan.type[0].is_floating_point and plan.name.endswith(("running_mean", "running_var")):
        statistics_shares(plan.name, plan.recipe.shares)


def different_recipes(plans: Sequence[TensorPlan]) -> list[TensorPlan]:
    """Return one plan for each recipe, since equal ones are checked once."""
    by_recipe = {
        repr((plan.recipe.method, plan.recipe.coefficients, plan.recipe.options)): plan
        for plan in plans
    }
    return [*by_recipe.values()]


def check_recipes(
    plans: Sequence[TensorPlan], place_of: Callable[[str], str], *, has_base: bool
) -> None:
    """Check the recipes of all tensors.

    Args:
        plans: of the tensors.
        place_of: returns where in the merge file the recipe of a tensor is; empty for its own.
        has_base: whether the merge has a base.

    Raises:
        InputError: the method cannot merge them.
    """
    names = [plan.name for plan in plans]
    for plan in different_recipes(plans):
        try:
            _check_recipe(plan, has_base=has_base)
            plan.recipe.check_names(names)
        except InputError as error:
            raise at_place(place_of(plan.name), error) from error


def _check_recipe(plan: TensorPlan, *, has_base: bool) -> None:
    """Check a recipe; if not all models take part, the error names the tensor and the reason."""
    try:
        plan.recipe.check(has_base=has_base)
    except InputError as error:
        if not plan.note:
            raise
        raise InputError(f"tensor {plan.name!r}: {plan.note}: {error}") from error
