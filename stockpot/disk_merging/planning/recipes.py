"""The merge recipe of each tensor, computed from a merge file and the tensor's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from stockpot.disk_merging.merge_files.merge_file import LayersEntry, MergeFile
from stockpot.disk_merging.merge_files.model_entry import ModelEntry
from stockpot.disk_merging.merge_files.values import value_at
from stockpot.disk_merging.planning.depth_scaling import at_depth, depths
from stockpot.disk_merging.planning.stacks import Stack
from stockpot.merging.name_rules import NameRule
from stockpot.merging.recipe import Recipe
from stockpot.merging.registry import METHODS
from stockpot.storage.digests import Algorithm
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import is_after_layers, layer_of, stack_of


@dataclass(frozen=True)
class TensorRecipes:
    """The recipes of one merge file.

    Attributes:
        file: how the models are merged.
        sources: the models, one per entry of the file; random methods read them, for digests.
        algorithm: of these digests.
    """

    file: MergeFile
    sources: Sequence[Source]
    algorithm: Algorithm = "blake3"

    def __call__(self, name: str) -> Recipe:
        """Return the recipe of an output tensor.

        Values in an entry of `layers` are interpolated over the depth of that entry, others over
        the depth of the output.

        Raises:
            InputError: no filter matches this tensor.
        """
        file = self.file
        part, depth = self._part(name)
        models = part.models if part else file.entries
        options: dict[str, Any] = {
            option: value_at(value, name, self._depth(name))
            for option, value in file.options.items()
        }
        if part:
            options |= {o: value_at(v, name, depth) for o, v in part.options.items()}
        coefficients = tuple(float(value_at(each.coefficient, name, depth)) for each in models)
        options |= self._per_model(models, options, name, depth)
        recipe = Recipe(
            file.method, coefficients, options, file.seed, self._ids(models), masks=file.masks
        )
        number = self._rule_of(name)
        rule = None if number is None else self.rules[number]
        known = {name: self._depth(name)} if file.layers else self._depths
        return at_depth(recipe if rule is None else rule.of(recipe), name, known)

    def place_of(self, name: str) -> str:
        """Return where in the merge file the method of a tensor is; empty for the file's own."""
        number = self._rule_of(name)
        return "" if number is None else f"rules.{number}"

    def _rule_of(self, name: str) -> int | None:
        """Return the index of the first rule that applies to a tensor; None if none does."""
        matching = (n for n, rule in enumerate(self.rules) if fnmatchcase(name, rule.match))
        return next(matching, None)

    def _per_model(
        self, models: Sequence[ModelEntry], options: Mapping[str, Any], name: str, depth: float
    ) -> dict[str, tuple[Any, ...]]:
        """Return the options that differ between models, with a value for each."""
        defaults = METHODS[self.file.method].options
        return {
            option: tuple(
                value_at(model.options[option], name, depth)
                if option in model.options
                else options.get(option, defaults[option])
                for model in models
            )
            for option in sorted({option for model in models for option in model.options})
        }

    @cached_property
    def rules(self) -> list[NameRule]:
        """The rules for tensors that are merged in another way."""
        return [rule.built for rule in self.file.rules]

    def _ids(self, models: Sequence[ModelEntry]) -> tuple[str, ...]:
        """Return the ids of models that seed random draws: their digests; empty without draws."""
        methods = [self.file.method, *(rule.method for rule in self.rules if rule.method)]
        if not any(METHODS[method].is_random for method in methods):
            return ()
        return tuple(self._digests[model.key] for model in models)

    @cached_property
    def _digests(self) -> dict[str, str]:
        """The digests of the models by their paths in the file."""
        pairs = zip(self.file.entries, self.sources, strict=True)
        return {entry.key: source.digest_by(self.algorithm) for entry, source in pairs}

    @cached_property
    def _depths(self) -> dict[str, float]:
        """The depths of the models' tensors by name."""
        return depths({name: None for source in self.sources for name in source.tensors})

    @cached_property
    def _stack(self) -> Stack:
        """The stack of layers that is sliced."""
        return Stack.of(self.sources[0], self.file.stack)

    @cached_property
    def _last_layers(self) -> dict[str | None, int]:
        """The highest layer number of each stack of the output, by the stack's prefix."""
        last: dict[str | None, int] = {}
        for name in self.sources[0].tensors:
            last[stack_of(name)] = max(last.get(stack_of(name), 0), layer_of(name) or 0)
        if self.file.layers:
            last[self._stack.prefix] = sum(part.num_layers for part in self.file.layers) - 1
        return last

    def _depth(self, name: str) -> float:
        """Return a tensor's depth in its stack of the output, from 0 to 1."""
        layer = layer_of(name)
        if layer is None:
            return float(self.file.head_depth) if is_after_layers(name) else 0.0
        return layer / max(self._last_layers.get(stack_of(name), layer), 1)

    def _part(self, name: str) -> tuple[LayersEntry | None, float]:
        """Return the entry of `layers` that a tensor belongs to, and its depth in that entry."""
        layers, depth = self.file.layers, self._depth(name)
        if not layers:
            return None, depth
        layer = self._stack.layer_of(name)
        if layer is None:
            return layers[0 if self._stack.is_before_end(name) else -1], depth
        for part in layers:
            if layer < part.num_layers:
                # As in mergekit, a part of a single layer has depth 1.
                return part, layer / (part.num_layers - 1) if part.num_layers > 1 else 1.0
            layer -= part.num_layers
        raise AssertionError(f"{name!r} is in no part of the layers")
