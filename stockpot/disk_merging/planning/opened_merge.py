"""The models of a merge, opened: those on disk, and the results of merges within it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from stockpot.disk_merging.merge_files.inner_merges import inner_merges
from stockpot.disk_merging.merge_files.merge_file import MergeFile, NestedEntry
from stockpot.disk_merging.pedigree import RecordedMerge, pedigree_of
from stockpot.disk_merging.planning.model_opening import open_named
from stockpot.disk_merging.streaming.merged_source import MergedSource
from stockpot.disk_merging.vocabulary.output import OutputTokens
from stockpot.errors import InputError, at_place
from stockpot.storage.digests import NO_DIGEST, FileState
from stockpot.storage.keys import content_key
from stockpot.storage.weights.naming import named_like
from stockpot.storage.weights.sources import Source


class OpenedMerge(RecordedMerge):
    """A merge with its models, opened when they are first asked for."""

    @abstractmethod
    def within_it(self, merge: MergeFile, place: str) -> MergedSource:
        """Return the result of a merge within this one, as a model.

        Args:
            merge: how its models are merged.
            place: of the merge in the merge file.

        Raises:
            InputError: it is not possible.
        """

    @cached_property
    def nested(self) -> dict[str, MergedSource]:
        """The merges within it, by the keys of their entries; equal ones are one model."""
        opened: dict[str, MergedSource] = {}
        for place, entry in inner_merges(self.file).items():
            if entry.merge is not None and entry.key not in opened:
                where = f"{self.within}.{place}" if self.within else place
                try:
                    opened[entry.key] = self.within_it(entry.merge, where)
                except InputError as error:
                    raise at_place(where, error) from error
        return opened

    def with_file(self, file: MergeFile, place: Path) -> Self:
        """Return a merge of the same models in another way, which are not opened again."""
        other = replace(self, file=file, place=place)
        opened = {"nested": self.nested, "sources": self.sources, "base": self.base}
        vars(other).update(opened)  # where cached properties keep their values
        return other

    def opened(self, entry: NestedEntry, base: Source | None = None) -> Source:
        """Open a model; an adapter is put on the base."""
        if entry.merge is not None:
            return self.nested[entry.key]
        return open_named(self.folder, entry.path, base)

    @cached_property
    def sources(self) -> list[Source]:
        """The models, opened, under the names of the base, or without one of the first model."""
        opened = [self.opened(entry, self.base) for entry in self.file.entries]
        return [named_like(source, self.base or opened[0]) for source in opened]

    @cached_property
    def base(self) -> Source | None:
        """The base, opened."""
        return None if self.file.base_entry is None else self.opened(self.file.base_entry)

    @property
    def reference(self) -> Source:
        """The model that the output is like: the base, or without one the first model."""
        return self.base or self.sources[0]

    @property
    def inputs(self) -> list[Source]:
        """The models, then the base if there is one."""
        return [*self.sources, *([self.base] if self.base else [])]

    @property
    def entries(self) -> list[NestedEntry]:
        """The entries of the inputs."""
        base = self.file.base_entry
        return [*self.file.entries, *([base] if base else [])]

    @property
    def leaves(self) -> list[Source]:
        """The models on disk: the inputs, with those of merges within it in place of these."""
        return [
            leaf
            for entry, source in zip(self.entries, self.inputs, strict=True)
            for leaf in ([source] if entry.merge is None else self.nested[entry.key].leaves)
        ]

    @property
    def _components(self) -> dict[str, str]:
        """The folders with weights, each with the name of its files without number and suffix."""
        return {
            folder: stem
            for model in (*reversed(self.inputs), self.reference)
            for folder, stem in model.components.items()
        }

    @property
    def files(self) -> list[Path]:
        """The files of weights."""
        return [file for model in self.inputs for file in model.files]

    @cached_property
    def tokens(self) -> OutputTokens:
        """The tokens of the output and the sources of their rows, and its chat template."""
        return OutputTokens.of(self.file, self.folder, self.sources, self.base)

    @property
    def vocabulary_digest(self) -> str | None:
        """The key of the tokenizers' part in the weights, hex; None if they have none."""
        return self.tokens.digest

    @property
    def pedigree(self) -> dict[str, Any]:
        """All that the merged weights depend on; reads every input once, for its digest."""
        return self._pedigree(lambda source: source.digest_by(self.algorithm))

    @property
    def _unfinished_pedigree(self) -> dict[str, Any]:
        """The pedigree with placeholders for the digests, of the same length."""
        return self._pedigree(lambda _source: NO_DIGEST[self.algorithm])

    def _pedigree(self, digest_of: Callable[[Source], str]) -> dict[str, Any]:
        digests = [digest_of(source) for source in self.sources]
        base_digest = None if self.base is None else digest_of(self.base)
        nested = {key: inner.record(digest_of) for key, inner in self.nested.items()}
        more = self.file.exceptions | self.tokens.record
        recorded = self.recorded_device
        label = self.device.label if recorded is None else recorded
        if label and not self.within:
            more |= {"device": label}
        return pedigree_of(self.file, digests, base_digest, nested, **more)

    def _states(self) -> list[FileState]:
        return [state for model in self.inputs for state in model.states]

    def _key(self, states: Sequence[FileState]) -> str:
        """Return the key of an unfinished merge: digests are not known yet, so of file states."""
        return content_key(states=states, **self._unfinished_pedigree)
