"""How each tensor of a merge file's output is merged, by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockpot.disk_merging.merge_file import MergeFile, value_at

if TYPE_CHECKING:
    from stockpot.disk_merging.layer_slices import LayerSlice
    from stockpot.merging.recipe import Recipe
    from stockpot.storage.weights.sources import Source


@dataclass(frozen=True)
class TensorRecipes:
    """The recipes of one merge file.

    Attributes:
        file: how the models are merged.
        num_layers: of the output.
        model_ids: what names the models for random draws; called only if the method draws.
    """

    file: MergeFile
    num_layers: int
    model_ids: Callable[[], Sequence[str]]

    def __call__(self, name: str) -> Recipe:
        """Return how the tensor of that name in the output is merged.

        Values that stand in a part of `layers` go over the depth of that part, others over the
        depth of the output.

        Raises:
            InputError: no filter is for this tensor.
        """
        from stockpot.merging.recipe import Recipe

        file = self.file
        number, depth = self._part(name)
        models = file.layers[number].models if file.layers else file.entries
        own = file.layers[number].options if file.layers else {}
        options = {o: value_at(v, name, self._depth(name)) for o, v in file.options.items()}
        options |= {option: value_at(value, name, depth) for option, value in own.items()}
        return Recipe(
            file.method,
            tuple(float(value_at(model.coefficient, name, depth)) for model in models),
            options,
            file.seed,
            self._ids(number) if self._draws else (),
        )

    @property
    def _draws(self) -> bool:
        from stockpot.merging.registry import METHODS

        return self.file.method in METHODS and METHODS[self.file.method].is_random

    def _ids(self, number: int) -> tuple[str, ...]:
        """Name the models that a part of the layers comes from."""
        ids = tuple(self.model_ids())
        if not self.file.layers:
            return ids
        id_of = {entry.path: own for entry, own in zip(self.file.entries, ids, strict=True)}
        return tuple(id_of[model.path] for model in self.file.layers[number].models)

    def _depth(self, name: str) -> float:
        """Say how deep in the net a tensor is used, from 0 to 1."""
        from stockpot.disk_merging.layer_slices import is_after_layers, layer_of

        layer = layer_of(name)
        if layer is None:
            return 1.0 if is_after_layers(name) else 0.0
        return layer / (max(self.num_layers - 1, 0) or 1)

    def _part(self, name: str) -> tuple[int, float]:
        """Return which part of the layers a tensor is in, and how deep in that."""
        from stockpot.disk_merging.layer_slices import layer_of

        layer = layer_of(name)
        depth = self._depth(name)
        if not self.file.layers or layer is None:
            return (len(self.file.layers) - 1 if depth else 0), depth
        for number, part in enumerate(self.file.layers):
            if layer < part.num_layers:
                # As in mergekit, a part of one layer is as deep as can be.
                return number, layer / (part.num_layers - 1) if part.num_layers > 1 else 1.0
            layer -= part.num_layers
        raise AssertionError(f"{name!r} is in no part of the layers")


def recipes_for(file: MergeFile, sources: Sequence[Source]) -> TensorRecipes:
    """Return the recipes of a merge file for these models."""
    from stockpot.disk_merging.layer_slices import num_layers

    layers = sum(part.num_layers for part in file.layers) or num_layers(sources[0].tensors)
    return TensorRecipes(file, layers, lambda: [source.digest for source in sources])


def layer_slices(file: MergeFile) -> list[LayerSlice]:
    """Return which layers of which models the output has; none if models are merged whole."""
    from stockpot.disk_merging.layer_slices import LayerSlice

    number_of = {entry.path: number for number, entry in enumerate(file.entries)}
    return [
        LayerSlice(
            models=tuple(number_of[source.path] for source in part.models),
            first_layers=tuple(source.range[0] for source in part.models),
            num_layers=part.num_layers,
        )
        for part in file.layers
    ]
