"""The merge recipe of each tensor, computed from a merge file and the tensor's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockpot.disk_merging.merge_file import MergeFile, value_at
from stockpot.storage.weights.tensor_names import is_after_layers, layer_of, num_layers

if TYPE_CHECKING:
    from stockpot.merging.recipe import Recipe
    from stockpot.storage.weights.sources import Source


@dataclass(frozen=True)
class TensorRecipes:
    """The recipes of one merge file.

    Attributes:
        file: how the models are merged.
        num_layers: of the output.
        model_ids: returns the ids that seed random draws; called only for random methods.
    """

    file: MergeFile
    num_layers: int
    model_ids: Callable[[], Sequence[str]]

    def __call__(self, name: str) -> Recipe:
        """Return the recipe of an output tensor.

        Values in an entry of `layers` are interpolated over the depth of that entry, others over
        the depth of the output.

        Raises:
            InputError: no filter matches this tensor.
        """
        from stockpot.merging.recipe import Recipe

        file = self.file
        part, depth = self._part(name)
        models = file.layers[part].models if file.layers else file.entries
        own = file.layers[part].options if file.layers else {}
        options = {o: value_at(v, name, self._depth(name)) for o, v in file.options.items()}
        options |= {option: value_at(value, name, depth) for option, value in own.items()}
        return Recipe(
            file.method,
            tuple(float(value_at(model.coefficient, name, depth)) for model in models),
            options,
            file.seed,
            self._ids(part),
        )

    def _ids(self, part: int) -> tuple[str, ...]:
        """Return the model ids of a part, which seed random draws; empty without draws."""
        from stockpot.merging.registry import METHODS

        if self.file.method not in METHODS or not METHODS[self.file.method].is_random:
            return ()
        ids = tuple(self.model_ids())
        if not self.file.layers:
            return ids
        id_of = {entry.path: own for entry, own in zip(self.file.entries, ids, strict=True)}
        return tuple(id_of[model.path] for model in self.file.layers[part].models)

    def _depth(self, name: str) -> float:
        """Return a tensor's depth in the model, from 0 to 1."""
        layer = layer_of(name)
        if layer is None:
            return 1.0 if is_after_layers(name) else 0.0
        return layer / (max(self.num_layers - 1, 0) or 1)

    def _part(self, name: str) -> tuple[int, float]:
        """Return the entry of `layers` that a tensor belongs to, and its depth in that entry."""
        layer = layer_of(name)
        depth = self._depth(name)
        if not self.file.layers or layer is None:
            return (len(self.file.layers) - 1 if depth else 0), depth
        for number, part in enumerate(self.file.layers):
            if layer < part.num_layers:
                # As in mergekit, a part of a single layer has depth 1.
                return number, layer / (part.num_layers - 1) if part.num_layers > 1 else 1.0
            layer -= part.num_layers
        raise AssertionError(f"{name!r} is in no part of the layers")


def recipes_for(file: MergeFile, sources: Sequence[Source]) -> TensorRecipes:
    """Return the recipes of a merge file for these models."""
    layers = sum(part.num_layers for part in file.layers) or num_layers(sources[0].tensors)
    return TensorRecipes(file, layers, lambda: [source.digest for source in sources])
