"""Merge models on disk: plan from headers, forecast the resources, and write the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.filesize import decimal

from stockpot.disk_merging.configs.labels import check_labels
from stockpot.disk_merging.configs.layer_fields import layer_order
from stockpot.disk_merging.configs.truth import TrueConfig, true_configs
from stockpot.disk_merging.forecast import forecast_of
from stockpot.disk_merging.lost_changes import lost_changes
from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.disk_merging.merge_files.mergekit_form import load_merge
from stockpot.disk_merging.merge_files.model_paths import model_and_adapter
from stockpot.disk_merging.notes import (
    different_configs,
    different_dtypes,
    different_heads,
    equal_inputs,
    exceptions_taken,
    unused_tensors,
)
from stockpot.disk_merging.pedigree import pedigree_metadata
from stockpot.disk_merging.planning.layer_slices import Sliced
from stockpot.disk_merging.planning.model_opening import open_or_empty
from stockpot.disk_merging.planning.opened_merge import OpenedMerge
from stockpot.disk_merging.planning.plan import Layout, TensorPlan, check_recipes, plan_merge
from stockpot.disk_merging.planning.recipes import TensorRecipes
from stockpot.disk_merging.planning.stacks import Stack
from stockpot.disk_merging.side_files.cards import model_card
from stockpot.disk_merging.side_files.companions import Companions, companions_of, copy_companions
from stockpot.disk_merging.side_files.differences import companion_notes
from stockpot.disk_merging.streaming.merged_source import MergedSource, as_read
from stockpot.disk_merging.streaming.stream import Output, merge_to_disk
from stockpot.errors import InputError
from stockpot.merging.name_rules import check_matches
from stockpot.merging.registry import METHODS
from stockpot.storage.atomic_files import write_text
from stockpot.storage.digests import FileState, digest_in_background, remember_digests
from stockpot.storage.weights.adapters import is_adapter
from stockpot.storage.weights.hub_origins import shown_name
from stockpot.storage.weights.naming import named_like
from stockpot.storage.weights.output import ShardedOutput
from stockpot.storage.weights.places import check_apart

_MAX_SHARD_BYTES = 5_000_000_000


class MergeJob(OpenedMerge):
    """One merge of models on disk into a folder, or a file that ends in `.safetensors`."""

    @classmethod
    def read(cls, config: Path, place: Path) -> MergeJob:
        """Read a merge file.

        Raises:
            InputError: it is not valid.
        """
        return cls(load_merge(config), config.parent, place, file_name=config.name)

    def within_it(self, merge: MergeFile, place: str) -> MergedSource:
        """Return the result of a merge within this one, as a model."""
        more: dict[str, Any] = {"algorithm": self.algorithm, "device": self.device}
        return MergeJob(merge, self.folder, Path(place), within=place, **more).as_model()

    def as_model(self) -> MergedSource:
        """Return the result as a model that is merged while it is read, to be merged further.

        Raises:
            InputError: it is not possible.
        """
        check_labels(self.plans)
        planned = [as_read(plan, self.place, self.file.dtype is not None) for plan in self.plans]
        merged = MergedSource(
            self.place,
            tuple(dict.fromkeys(self.files)),
            {plan.name: stored for plan, stored in planned},
            notes=self._notes_on_models,
            components=self._components,
            plans={plan.name: plan for plan, _ in planned},
            inputs=self.inputs,
            nested=self.nested,
            leaves=self.leaves,
            record=self._pedigree,
            output_dtypes={plan.name: plan.type[0] for plan in self.plans},
            device=self.device,
        )
        if self.companions is not None:
            merged.add_side_files(self._write_side_files)
        return merged

    @property
    def protected(self) -> list[Path] | None:
        """The paths that must survive if a model is replaced, those of copied files included."""
        own = super().protected
        return own if own is None or self.companions is None else [*own, self.companions.folder]

    @cached_property
    def plans(self) -> list[TensorPlan]:
        """The plan of each tensor.

        Raises:
            InputError: the models do not match, or the method cannot merge them.
        """
        file = self.file
        dtype = None if file.dtype is None else getattr(torch, file.dtype)
        recipes = TensorRecipes(file, self.sources, self.algorithm)
        sliced = Sliced(file.layers, file.stack) if file.layers else None
        layout = Layout(sliced, self.tokens.rows)
        plans = plan_merge(self.sources, self.base, recipes, dtype, file, layout)
        check_matches(recipes.rules, [plan.name for plan in plans])
        check_recipes(plans, recipes.place_of, has_base=self.base is not None)
        return plans

    @cached_property
    def output(self) -> ShardedOutput:
        """The layout of the output files, with placeholders for the digests in the pedigree."""
        types = {plan.name: plan.type for plan in self.plans}
        metadata = self._metadata(self._unfinished_pedigree)
        return ShardedOutput(
            self.place, types, metadata, _MAX_SHARD_BYTES, self.protected, self._components
        )

    def _metadata(self, pedigree: Mapping[str, Any]) -> dict[str, str]:
        """Return the metadata of the headers of the output."""
        return pedigree_metadata(pedigree)

    @property
    def forecast(self) -> dict[str, int]:
        """The resources that the merge needs, from headers alone: disk and memory in bytes."""
        return forecast_of(self.plans, self.output, self.nested.values())

    @property
    def summary(self) -> str:
        """The size of the output."""
        return decimal(self.output.num_bytes)

    def check_models(self) -> None:
        """Refuse models that cannot be merged, as `check` does."""
        adapters = [file.parent for file in self.files if is_adapter(file.parent)]
        check_apart(self.place, [*adapters, *(leaf.folder for leaf in self.leaves)])
        # Their errors are raised when they are computed.
        assert [self.plans, self.companions, self._configs]
        check_labels(self.plans)

    def run(self, on_bytes: Callable[[int], None]) -> None:
        """Merge; an interrupted merge resumes with the first unfinished shard.

        Raises:
            InputError: the output cannot be written, or a value is not finite.
        """
        digest_in_background(self.files, self.algorithm)
        merge_to_disk([self.written()], device=self.device, on_bytes=on_bytes)
        remember_digests()

    def written(self) -> Output:
        """Return what is written, from the models in their present state."""
        states = self._states()
        return Output(
            self.plans,
            self.output,
            self._key(states),
            lambda folder: self._complete(folder, states),
        )

    def _complete(self, folder: Path, states: Sequence[FileState]) -> None:
        """Write what is known once all inputs are read, and the files next to the weights."""
        self.output.write_metadata(self._metadata(self.pedigree))
        for before, now in zip(states, self._states(), strict=True):
            if before != now:
                raise InputError(f"{now[0]}: changed during the merge; merge again")
        self._write_companions(folder)

    @cached_property
    def notes(self) -> list[str]:
        """Exceptions that the merge makes, from headers and a small part of the heads."""
        return [*self._notes_on_models, *self.companion_notes, *self.device.notes]

    @cached_property
    def _notes_on_models(self) -> list[str]:
        """Exceptions, without those about the files next to the weights."""
        unused = unused_tensors(self.plans, self.inputs) if self.file.missing == "base" else {}
        return [
            *self.file.ignored,
            *self._notes_on_configs,
            *different_dtypes(self.plans),
            *dict.fromkeys(
                f"{shown_name(model.path)}: {note}" for model in self.inputs for note in model.notes
            ),
            *self.tokens.notes,
            *exceptions_taken(self.plans, unused),
            *self._equal_inputs(self._identities),
            *different_heads(self.plans),
        ]

    @property
    def _notes_on_configs(self) -> list[str]:
        """How the models' config.json differ, and what differs in the output's."""
        changes = (note for config in self._configs.values() for note in config.notes)
        return [*different_configs(self.inputs), *changes]

    @property
    def notes_on_contents(self) -> list[str]:
        """Notes on what is known once every input has been read: equal inputs, and lost changes."""
        return [
            *self._equal_inputs([each.digest_by(self.algorithm) for each in self.inputs]),
            *lost_changes(self.plans, self.output.facts.values()),
            *self.device.notes,
        ]

    @property
    def _identities(self) -> list[object]:
        """The keys that tell the inputs apart before they are read."""
        return [
            tuple(file.resolve() for file in source.files) if entry.merge is None else entry.key
            for entry, source in zip(self.entries, self.inputs, strict=True)
        ]

    def _equal_inputs(self, ids: Sequence[object]) -> list[str]:
        if self.file.layers:
            return []  # several slices may come from one model
        num_models = len(self.sources)
        base = ids[num_models] if self.base else None
        takes_base = METHODS[self.file.method].takes_base
        names = [shown_name(source.path) for source in self.sources]
        return equal_inputs(names, ids[:num_models], base, has_task_vectors=takes_base)

    @cached_property
    def companions(self) -> Companions | None:
        """The files that are copied next to the weights; None for a single file.

        Raises:
            InputError: they cannot be copied.
        """
        entry = self.file.config_entry
        if entry is None:
            origin = self.reference.folder
        elif entry.merge is not None:
            origin = self.nested[entry.key].folder
        else:
            origin, _ = model_and_adapter(self.folder, entry.path)
        return self.tokens.among(companions_of(origin, self.place))

    @property
    def companion_notes(self) -> list[str]:
        """Notes on files that are not copied next to the weights, or differ between the models."""
        if self.companions is None:
            return []
        return companion_notes(self.companions, self.inputs, self.tokens.vocabulary is not None)

    @cached_property
    def _configs(self) -> dict[str, TrueConfig]:
        """The config.json of the output and of its components, by their path in the folder.

        Raises:
            InputError: the sizes in it are not those of the output.
        """
        if self.companions is None:
            return {}
        own, entry = self.reference, self.file.config_entry
        if entry is not None and entry.merge is not None:
            own = self.nested[entry.key]
        elif entry is not None:
            own = open_or_empty(self.folder, entry.path, self.companions.folder, self.base)
        own = named_like(own, self.reference)
        layers = layer_order(self.file, self.sources)
        stack = Stack.of(self.sources[0], self.file.stack).prefix if layers else None
        types = {plan.name: plan.type for plan in self.plans}
        configs = true_configs(own, self.inputs, types, layers, stack)
        return self.tokens.with_ids(configs, self.companions)

    def _write_side_files(self, folder: Path) -> None:
        """Copy config and tokenizer, with the changes that the output needs."""
        if self.companions is not None:
            copy_companions(self.companions, folder)
        for path, config in self._configs.items():
            write_text(folder / path, json.dumps(config.content, indent=2) + "\n")
        self.tokens.write(folder)

    def _write_companions(self, folder: Path) -> None:
        """Write the files next to the weights, the model card included."""
        self._write_side_files(folder)
        notes = [*dict.fromkeys([*self.notes, *self.notes_on_contents])]
        origin = None if self.companions is None else self.companions.folder
        card = model_card(self.place.name, self.file, self.pedigree, notes, self.leaves, origin)
        write_text(folder / "README.md", card)
