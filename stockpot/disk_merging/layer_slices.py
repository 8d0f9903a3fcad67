"""Models built from layers of several models: copied, stacked, or merged per slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from stockpot.disk_merging.merge_file import LayersEntry
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


def stacked(
    layers: Sequence[LayersEntry], sources: Sequence[Source], base: Source | None
) -> list[TensorInputs]:
    """List the tensors of a model stacked from slices; its layers are renumbered consecutively.

    Tensors used before the layers come from the models of the first slice, tensors used after
    them from those of the last. The base's layers are those of a slice's first model.

    Args:
        layers: the slices, from the first layers to the last.
        sources: the models, each once, in the order in which they are named there.
        base: the model that they were fine-tuned from; None without a base.

    Raises:
        InputError: a model lacks a layer, or does not have exactly one stack of layers.

    Source: mergekit's `slices`.
    """
    paths = dict.fromkeys(model.path for part in layers for model in part.models)
    source_of = dict(zip(paths, sources, strict=True))
    for model in (*sources, *([base] if base else [])):
        _check_one_stack(model)
    for part in layers:
        _check_ranges(part, source_of, base)
    listed = [*_outside(layers[0], source_of, base, after=False)]
    number = count()
    for part in layers:
        for layer in range(part.num_layers):
            models = [(source_of[model.path], model.range[0] + layer) for model in part.models]
            listed += _layer(models, base, next(number))
    return [*listed, *_outside(layers[-1], source_of, base, after=True)]


def _outside(
    part: LayersEntry, source_of: Mapping[str, Source], base: Source | None, *, after: bool
) -> Iterator[TensorInputs]:
    for inputs in same_named([source_of[model.path] for model in part.models], base):
        if layer_of(inputs.name) is None and is_after_layers(inputs.name) == after:
            yield inputs


def _layer(
    models: Sequence[tuple[Source, int]], base: Source | None, number: int
) -> list[TensorInputs]:
    """List the tensors of layer `number` of the output, made from one layer of each model."""
    _, base_layer = models[0]
    names = dict.fromkeys(
        with_layer(name, number)
        for model, own_layer in (*models, *([(base, base_layer)] if base else []))
        for name in model.tensors
        if layer_of(name) == own_layer
    )
    return [
        TensorInputs(
            name,
            tuple(Origin(model, with_layer(name, own_layer)) for model, own_layer in models),
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


def _check_ranges(part: LayersEntry, source_of: Mapping[str, Source], base: Source | None) -> None:
    ranges = [(source_of[model.path], model.range) for model in part.models]
    ranges += [(base, part.models[0].range)] if base else []
    for model, (first, end) in ranges:
        held = num_layers(model.tensors)
        if end > held:
            raise InputError(
                f"{model.path}: range must end at {held}, its number of layers, or before, got "
                f"[{first}, {end}]"
            )
