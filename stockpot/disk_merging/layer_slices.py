"""Models built from layers of several models: copied, stacked, or merged per slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stockpot.disk_merging.merge_file import MergeFile
from stockpot.disk_merging.origins import Origin, TensorInputs, same_named
from stockpot.errors import InputError
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import (
    is_after_layers,
    layer_of,
    num_layers,
    stack_of,
    with_layer,
)


@dataclass(frozen=True, slots=True)
class LayerSlice:
    """Consecutive layers of the output.

    Attributes:
        models: indices of the models that these layers come from.
        first_layers: the first layer in each of them.
        num_layers: the number of layers.
    """

    models: tuple[int, ...]
    first_layers: tuple[int, ...]
    num_layers: int


def slices_of(file: MergeFile) -> list[LayerSlice]:
    """Return the slices of a merge file; empty if models are merged whole."""
    index_of = {entry.path: index for index, entry in enumerate(file.entries)}
    return [
        LayerSlice(
            models=tuple(index_of[source.path] for source in part.models),
            first_layers=tuple(source.range[0] for source in part.models),
            num_layers=part.num_layers,
        )
        for part in file.layers
    ]


def stacked(
    slices: Sequence[LayerSlice], sources: Sequence[Source], base: Source | None
) -> list[TensorInputs]:
    """List the tensors of a model stacked from slices; its layers are renumbered consecutively.

    Tensors used before the layers come from the models of the first slice, tensors used after
    them from those of the last. The base's layers are those of a slice's first model.

    Args:
        slices: from the first layers to the last.
        sources: the models, which slices refer to by index.
        base: the model that they were fine-tuned from; None without a base.

    Raises:
        InputError: a model lacks a layer, or does not have exactly one stack of layers.

    Source: mergekit's `slices`.
    """
    for model in {id(model): model for model in (*sources, *([base] if base else []))}.values():
        _check_one_stack(model)
    for part in slices:
        _check_ranges(part, sources, base)
    listed = [*_outside(slices[0], sources, base, after=False)]
    start = 0
    for part in slices:
        for layer in range(part.num_layers):
            listed += _layer(part, layer, start + layer, sources, base)
        start += part.num_layers
    return [*listed, *_outside(slices[-1], sources, base, after=True)]


def _outside(
    part: LayerSlice, sources: Sequence[Source], base: Source | None, *, after: bool
) -> Iterator[TensorInputs]:
    for inputs in same_named([sources[model] for model in part.models], base):
        if layer_of(inputs.name) is None and is_after_layers(inputs.name) == after:
            yield inputs


def _layer(
    part: LayerSlice, layer: int, output_layer: int, sources: Sequence[Source], base: Source | None
) -> list[TensorInputs]:
    """List the tensors of one layer of a slice, which becomes `output_layer` of the output."""
    inputs = [
        (sources[model], first + layer)
        for model, first in zip(part.models, part.first_layers, strict=True)
    ]
    base_layer = part.first_layers[0] + layer
    with_base = [*inputs, *([] if base is None else [(base, base_layer)])]
    names = dict.fromkeys(
        with_layer(name, output_layer)
        for model, own_layer in with_base
        for name in model.tensors
        if layer_of(name) == own_layer
    )
    return [
        TensorInputs(
            name,
            tuple(Origin(model, with_layer(name, own_layer)) for model, own_layer in inputs),
            None if base is None else Origin(base, with_layer(name, base_layer)),
        )
        for name in names
    ]


def _check_one_stack(model: Source) -> None:
    stacks = {stack for name in model.tensors if (stack := stack_of(name)) is not None}
    if len(stacks) != 1:
        raise InputError(
            f"{model.path}: layers can be taken from a model with one stack of layers, got "
            f"{sorted(stacks) or 'none'}"
        )


def _check_ranges(part: LayerSlice, sources: Sequence[Source], base: Source | None) -> None:
    models = [*(sources[model] for model in part.models), *([] if base is None else [base])]
    for model, first in zip(models, (*part.first_layers, part.first_layers[0]), strict=False):
        count, end = num_layers(model.tensors), first + part.num_layers
        if end > count:
            raise InputError(
                f"{model.path}: range must end at {count}, its number of layers, or before, got "
                f"[{first}, {end}]"
            )
