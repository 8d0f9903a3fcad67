"""Models built from layers of several models: copied, stacked, or merged per slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from stockpot.disk_merging.merge_files.merge_file import LayersEntry
from stockpot.disk_merging.planning.origins import Origin, TensorInputs, same_named
from stockpot.disk_merging.planning.stacks import Stack
from stockpot.errors import InputError
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import with_layer


@dataclass(frozen=True, slots=True)
class Sliced:
    """The source of each layer of the output.

    Attributes:
        layers: the slices, from the first layers to the last.
        stack: which stack of layers is sliced, see `Stack.of`; None for the only one.
    """

    layers: Sequence[LayersEntry]
    stack: str | None = None


def stacked(sliced: Sliced, sources: Sequence[Source], base: Source | None) -> list[TensorInputs]:
    """List the tensors of a model stacked from slices; its layers are renumbered consecutively.

    Tensors used before the layers come from the models of the first slice, as do other parts of the
    model; tensors used after them from those of the last. The base's layers are those of a slice's
    first model.

    Args:
        sliced: the slices.
        sources: the models, each once, in the order in which they are named there.
        base: the model that they were fine-tuned from; None without a base.

    Raises:
        InputError: a model lacks a layer, or has no such stack.

    Source: mergekit's `slices` and `modules`.
    """
    layers = sliced.layers
    keys = dict.fromkeys(model.key for part in layers for model in part.models)
    source_of = dict(zip(keys, sources, strict=True))
    stacks = [Stack.of(model, sliced.stack) for model in (*sources, *([base] if base else []))]
    stack = stacks[0]
    for part in layers:
        _check_ranges(part, source_of, base, stack)
    listed = [
        inputs
        for inputs in _outside(layers[0], source_of, base, stack)
        if stack.is_before_end(inputs.name)
    ]
    number = count()
    for part in layers:
        for layer in range(part.num_layers):
            models = [(source_of[model.key], model.range[0] + layer) for model in part.models]
            listed += _layer(models, base, next(number), stack)
    last = _outside(layers[-1], source_of, base, stack)
    return [*listed, *(inputs for inputs in last if not stack.is_before_end(inputs.name))]


def _outside(
    part: LayersEntry, source_of: Mapping[str, Source], base: Source | None, stack: Stack
) -> Iterator[TensorInputs]:
    for inputs in same_named([source_of[model.key] for model in part.models], base):
        if stack.layer_of(inputs.name) is None:
            yield inputs


def _layer(
    models: Sequence[tuple[Source, int]], base: Source | None, number: int, stack: Stack
) -> list[TensorInputs]:
    """List the tensors of layer `number` of the output, made from one layer of each model."""
    _, base_layer = models[0]
    names = dict.fromkeys(
        with_layer(name, number)
        for model, own_layer in (*models, *([(base, base_layer)] if base else []))
        for name in model.tensors
        if stack.layer_of(name) == own_layer
    )
    return [
        TensorInputs(
            name,
            tuple(Origin(model, with_layer(name, own_layer)) for model, own_layer in models),
            None if base is None else Origin(base, with_layer(name, base_layer)),
        )
        for name in names
    ]


def _check_ranges(
    part: LayersEntry, source_of: Mapping[str, Source], base: Source | None, stack: Stack
) -> None:
    ranges = [(source_of[model.key], model.range) for model in part.models]
    ranges += [(base, part.models[0].range)] if base else []
    for model, (first, end) in ranges:
        held = stack.num_layers(model.tensors)
        if end > held:
            raise InputError(
                f"{model.path}: range must end at {held}, its number of layers, or before, got "
                f"[{first}, {end}]"
            )
