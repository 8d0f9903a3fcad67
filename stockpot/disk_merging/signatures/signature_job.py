"""Merges on disk by weight signatures: added to a model, or removed again."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.disk_merging.planning.plan import TensorPlan, different_recipes
from stockpot.disk_merging.planning.recipes import TensorRecipes
from stockpot.disk_merging.signatures.patches import open_patch
from stockpot.disk_merging.signatures.signature_plans import SignaturePlans
from stockpot.errors import InputError, some_of
from stockpot.merging.recipe import Recipe
from stockpot.merging.signature_layers import NUM_LAYERS, SIGNATURES, split_layers
from stockpot.storage.local_paths import located
from stockpot.storage.weights.naming import named_like
from stockpot.storage.weights.sources import Source


class SignatureJob(MergeJob):
    """One addition of weight signatures to a model; other tensors of the model are copied."""

    @cached_property
    def sources(self) -> list[Source]:
        """The models and patches, opened, in the order of their roles, under the same names."""
        opened = [
            open_patch(located(self.folder, entry.path))
            if entry.role == "patch"
            else self.opened(entry, self.base)
            for entry in self.file.entries
        ]
        return [named_like(source, self.base or opened[0]) for source in opened]

    @property
    def reference(self) -> Source:
        """The target."""
        return self.sources[0]

    @cached_property
    def plans(self) -> list[TensorPlan]:
        """The plan of each tensor of the target.

        Raises:
            InputError: the models do not match, or an option is not possible.
        """
        dtype = None if self.file.dtype is None else getattr(torch, self.file.dtype)
        return self._signatures.copies(self.signed, dtype)

    @cached_property
    def signed(self) -> list[TensorPlan]:
        """The plans of the tensors that have a signature, in forward order.

        Raises:
            InputError: as for `plans`.
        """
        num_layers, _ = _split(self.file)
        if any(entry.role == "patch" for entry in self.file.entries):
            self._check_patched()
        plans = self._signatures.signed(num_layers)
        for plan in different_recipes(plans):
            plan.recipe.check(has_base=plan.base is not None)
        return plans

    @cached_property
    def notes(self) -> list[str]:
        """Differences between configurations, and the tensors that have a signature."""
        names = [plan.name for plan in self.signed]
        count = len(self.reference.tensors)
        signed = f"signatures in {len(names)} of {count} tensors: {some_of(names)}"
        none = "no tensor has a signature: the corrupted models equal the clean one"
        differences = [*self._notes_on_configs, *self.companion_notes]
        return [*differences, *self.device.notes, signed if names else none]

    @property
    def notes_on_contents(self) -> list[str]:
        """Corrupted models that equal the clean one, once every input has been read."""
        pairs = list(zip(self.file.entries, self.sources, strict=True))
        digests = {id(source): source.digest_by(self.algorithm) for source in self.sources}
        clean = [digests[id(source)] for entry, source in pairs if entry.role == "clean"]
        return [
            f"{entry.key} equals the clean model: its signature is 0"
            for entry, source in pairs
            if entry.role == "corrupted" and digests[id(source)] in clean
        ] + self.device.notes

    @property
    def _signatures(self) -> SignaturePlans:
        recipe_of = TensorRecipes(self.file, self.sources, self.algorithm)

        def without_layers(name: str) -> Recipe:
            recipe = recipe_of(name)
            options = {n: value for n, value in recipe.options.items() if n != NUM_LAYERS}
            return replace(recipe, options=options)

        return SignaturePlans(
            self.file.entries, self.sources, self.base, without_layers, self.file.exclude
        )

    def _check_patched(self) -> None:
        """Refuse settings that a merge of patches cannot have."""
        if NUM_LAYERS in self.file.options:
            raise InputError(
                f"options: {NUM_LAYERS} is chosen where a patch is written, got "
                f"{self.file.options[NUM_LAYERS]!r} where it is added; remove it"
            )
        if self.file.masks not in (None, "first", "none"):
            raise InputError(
                f"masks: must be first (the target's) or none with patches, which have no mask, "
                f"got {self.file.masks!r}"
            )


def removing(file: MergeFile) -> MergeFile:
    """Return a merge file that removes the signatures which the given one adds.

    Raises:
        InputError: it adds none.
    """
    if file.method != SIGNATURES or file.output == "patch":
        found = "output: patch" if file.method == SIGNATURES else f"method {file.method!r}"
        raise InputError(
            f"--remove: is for a merge file that adds {SIGNATURES} to a target, got {found}"
        )
    return file.model_copy(update={"options": {**file.options, "remove": True}})


def _split(file: MergeFile) -> tuple[int | str, dict[str, object]]:
    try:
        return split_layers(file.options)
    except ValueError as error:
        raise InputError(f"options: {error}") from error
