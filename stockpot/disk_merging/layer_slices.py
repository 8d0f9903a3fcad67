"""Nets whose layers are taken from several models: kept, stacked, or merged a slice at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockpot.errors import InputError

if TYPE_CHECKING:
    from stockpot.disk_merging.origins import TensorInputs
    from stockpot.storage.weights.sources import Source

_LAYER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")
_BEFORE = re.compile(r"embed(?!_out)|wte|wpe")
_AFTER = re.compile(r"head|norm|score|classifier|pooler|embed_out|ln_f|(^|\.)output\.")


@dataclass(frozen=True, slots=True)
class LayerSlice:
    """Successive layers of the output.

    Attributes:
        models: which models these layers come from, by number.
        first_layers: the first layer in each of them.
        num_layers: how many layers it has.
    """

    models: tuple[int, ...]
    first_layers: tuple[int, ...]
    num_layers: int


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a tensor is in; None for one outside the layers."""
    found = _LAYER.search(name)
    return int(found.group(1)) if found else None


def is_after_layers(name: str) -> bool:
    """Say whether a tensor outside the layers is used after them: heads and last norms are."""
    return bool(_AFTER.search(name)) and not _BEFORE.search(name)


def num_layers(names: Iterable[str]) -> int:
    """Count the layers, from 0 to the last number in a name."""
    return max((layer for name in names if (layer := layer_of(name)) is not None), default=-1) + 1


def stacked(
    slices: Sequence[LayerSlice], sources: Sequence[Source], base: Source | None
) -> list[TensorInputs]:
    """List the tensors of a net that is stacked from slices; its layers are numbered on.

    What is used before the layers comes from the models of the first slice, what is used after
    them from those of the last. The base's layers are those of a slice's first model.

    Args:
        slices: from the first layers to the last.
        sources: the models that slices name by number.
        base: what the models were fine-tuned from; None without a base.

    Raises:
        InputError: a model has no such layers, or not one stack of them.

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
    from stockpot.disk_merging.origins import same_named

    for inputs in same_named([sources[model] for model in part.models], base):
        if layer_of(inputs.name) is None and is_after_layers(inputs.name) == after:
            yield inputs


def _layer(
    part: LayerSlice, layer: int, number: int, sources: Sequence[Source], base: Source | None
) -> list[TensorInputs]:
    """List the tensors of a slice's layer, which has that number in the output."""
    from stockpot.disk_merging.origins import Origin, TensorInputs

    models = [sources[model] for model in part.models]
    own = [first + layer for first in part.first_layers]
    held = list(zip(models, own, strict=True))
    with_base = [*held, *([] if base is None else [(base, own[0])])]
    names = dict.fromkeys(
        _renumbered(name, number)
        for model, layer_there in with_base
        for name in model.tensors
        if layer_of(name) == layer_there
    )
    return [
        TensorInputs(
            name,
            tuple(Origin(model, _renumbered(name, there)) for model, there in held),
            None if base is None else Origin(base, _renumbered(name, own[0])),
        )
        for name in names
    ]


def _renumbered(name: str, number: int) -> str:
    found = _LAYER.search(name)
    assert found is not None
    return f"{name[: found.start(1)]}{number}{name[found.end(1) :]}"


def _check_one_stack(model: Source) -> None:
    stacks = {name[: found.start(1)] for name in model.tensors if (found := _LAYER.search(name))}
    if len(stacks) != 1:
        raise InputError(
            f"{model.path}: layers are taken from a net with one stack of them, got "
            f"{sorted(stacks) or 'none'}"
        )


def _check_ranges(part: LayerSlice, sources: Sequence[Source], base: Source | None) -> None:
    named = zip(part.models, part.first_layers, strict=True)
    held = [(sources[model], first) for model, first in named]
    for model, first in [*held, *([] if base is None else [(base, part.first_layers[0])])]:
        count, end = num_layers(model.tensors), first + part.num_layers
        if end > count:
            raise InputError(
                f"{model.path}: range must end at {count}, its number of layers, or before, got "
                f"[{first}, {end}]"
            )
