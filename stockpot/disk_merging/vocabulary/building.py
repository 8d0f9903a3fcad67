"""The vocabulary of a merged model, from the section `tokenizer` of its merge file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch

from stockpot.disk_merging.merge_files.inner_merges import inner_merges
from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.disk_merging.merge_files.model_paths import model_and_adapter
from stockpot.disk_merging.vocabulary.rows import ABSENT, ZEROS, Rows
from stockpot.disk_merging.vocabulary.section import ModelToken, TokenizerSection
from stockpot.disk_merging.vocabulary.tokenizers import (
    ModelTokenizer,
    OutputTokenizer,
    tokenizer_folder,
)
from stockpot.errors import InputError, some_of
from stockpot.storage.keys import content_key
from stockpot.storage.weights.hub_origins import shown_name
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import is_token_embedding


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of the output, and where the rows of its embeddings and heads come from.

    Attributes:
        tokenizer: of the output.
        former: the tokenizer of the model whose configuration is copied.
        models: that are merged, the base included.
        rows: of the output, in these models.
        notes: what was assumed.
    """

    tokenizer: OutputTokenizer
    former: ModelTokenizer
    models: Sequence[Source]
    rows: Rows
    notes: Sequence[str] = field(default_factory=list)

    @cached_property
    def digest(self) -> str:
        """The key of the rows and their tokens, hex, on which the merged weights depend."""
        rows = torch.cat([self.rows.kept, self.rows.donors]).numpy().tobytes()
        return content_key(tokens=dict(self.tokenizer.ids), rows=sha256(rows).hexdigest())

    @property
    def all_notes(self) -> list[str]:
        """The tokenizer, and how many rows were taken from where."""
        num_tokens = int(self.rows.is_token.sum())
        notes = [f"{self.tokenizer.note}: {num_tokens} tokens", *self.notes]
        if padding := self.rows.size - num_tokens:
            notes.append(
                f"tokenizer: {padding} of {self.rows.size} rows are no tokens: their rows are the "
                "mean of those of all tokens"
            )
        for number, model in enumerate(self.models):
            if taken := self._taken(number):
                notes.append(f"tokenizer: rows that {shown_name(model.path)} takes: {taken}")
        cut = {shown_name(m.path): self._num_cut(n) for n, m in enumerate(self.models)}
        if listed := ", ".join(f"{count} of {name}" for name, count in cut.items() if count):
            notes.append(f"tokenizer: rows that are left out, as the output lacks them: {listed}")
        return list(dict.fromkeys(notes))

    def _taken(self, number: int) -> str:
        """Say how many rows a model takes from each source, and give examples of the tokens."""
        token_of = {row: token for token, row in self.tokenizer.ids.items()}
        rows = self.rows.is_taken[number].nonzero().flatten()
        given = (self.rows.donors[:, rows] != ABSENT).T.tolist()
        names_of: dict[str, list[str]] = {}
        for row, is_given in zip(rows.tolist(), given, strict=True):
            source = self._named([n for n, one in enumerate(is_given) if one])
            names_of.setdefault(source, []).append(repr(token_of[row]))
        return "; ".join(f"{len(t)} {source} ({some_of(t)})" for source, t in names_of.items())

    def _named(self, donors: Sequence[int]) -> str:
        names = [shown_name(self.models[number].path) for number in donors]
        if not names:
            return "of zeros"
        return f"from {names[0]}" if len(names) == 1 else f"as the mean of {', '.join(names)}"

    def _num_cut(self, number: int) -> int:
        """Return the number of rows of a model that are not in the output."""
        used = set(self.rows.own[number].tolist()) - {ABSENT}
        return self.rows.lengths[number] - len(used)


def vocabulary_of(
    file: MergeFile, folder: Path, sources: Sequence[Source], base: Source | None
) -> Vocabulary | None:
    """Read the tokenizers of all models and assign a row to each token of the output.

    Args:
        file: the merge.
        folder: of the merge file.
        sources: the models, in the order of the file's entries.
        base: the base, opened.

    Returns:
        None if the file does not name a tokenizer: rows then stay where they are.

    Raises:
        InputError: a tokenizer cannot be read, or a source of a token does not exist.
    """
    if file.tokenizer is None:
        return None
    models = [*sources, *([] if base is None else [base])]
    entries = [*file.entries, *([file.base_entry] if file.base_entry else [])]
    names = [entry.key for entry in entries]
    return _Building(file, file.tokenizer, folder, models, names).result()


class _Building:
    """The construction of one vocabulary."""

    def __init__(
        self,
        file: MergeFile,
        section: TokenizerSection,
        folder: Path,
        models: Sequence[Source],
        names: Sequence[str],
    ) -> None:
        self._section, self._folder, self._models, self._names = section, folder, models, names
        # Without a base, no model is preferred where a token is in several.
        preferred = file.config_entry or file.base_entry
        self._first = preferred.key if preferred else names[0]
        self._base = names.index(self._first) if preferred and self._first in names else None
        self._merges = {entry.key for entry in inner_merges(file).values()}
        self._loaded: dict[Path, ModelTokenizer] = {}
        self._notes: list[str] = []

    def result(self) -> Vocabulary:
        """Return the vocabulary."""
        former = self._tokenizer_of(self._first)
        lengths = tuple(num_embedded(model) for model in self._models)
        own = [
            self._own(model, former, length)
            for model, length in zip(self._models, lengths, strict=True)
        ]
        tokenizer = self._output(former, own, lengths)
        ids = tokenizer.ids
        size = max(ids.values()) + 1
        size += -size % (self._section.pad_to_multiple_of or 1)
        rows = torch.full((len(own), size), ABSENT)
        for number, (each, length) in enumerate(zip(own, lengths, strict=True)):
            theirs = [each.ids.get(token, ABSENT) for token in ids]
            held = torch.tensor([row if row < length else ABSENT for row in theirs])
            rows[number, list(ids.values())] = held
        is_token = torch.zeros(size, dtype=torch.bool)
        is_token[list(ids.values())] = True
        chosen = self._chosen(ids, own, lengths)
        forced = frozenset(ids[t] for t, each in self._section.tokens.items() if each.force)
        table = Rows(rows, lengths, is_token, chosen, forced, self._base)
        return Vocabulary(tokenizer, former, self._models, table, self._notes)

    def _output(
        self, former: ModelTokenizer, own: Sequence[ModelTokenizer], lengths: Sequence[int]
    ) -> OutputTokenizer:
        """Return the tokenizer of the output."""
        source = self._section.source_model
        first = former if source is None else self._tokenizer_of(source)
        further: list[object] = []
        if self._section.source == "union":
            further = _further_tokens(first, own, lengths)
        held = {*first.ids, *map(str, further)}
        further += [token for token in self._section.tokens if token not in held]
        return first.with_tokens(further)

    def _own(self, model: Source, former: ModelTokenizer, length: int) -> ModelTokenizer:
        """Return the tokenizer of a model; that of the output's model if it has none."""
        # An adapter may bring a tokenizer, for an embedding that it replaces.
        folder = tokenizer_folder(model.path, model.folder)
        if folder is not None:
            return self._load(folder)
        most = max(former.ids.values()) + 1
        if length < most:
            raise InputError(
                f"{model.path}: has no tokenizer, and {length} rows are too few for that of "
                f"{former.folder} with {most}; add the files of its tokenizer"
            )
        name = shown_name(model.path)
        self._notes.append(
            f"tokenizer: {name} has none; its tokens are taken to be those of "
            f"{shown_name(former.folder)}"
        )
        return former

    def _tokenizer_of(self, name: str) -> ModelTokenizer:
        """Load the tokenizer of a model by its name in the merge file."""
        opened = self._models[self._names.index(name)].folder if name in self._names else None
        named = () if name in self._merges else model_and_adapter(self._folder, name)
        folder = tokenizer_folder(*reversed(named), opened)
        if folder is None:
            raise InputError(
                f"tokenizer: {name} has no tokenizer, whose tokens the output would have; add its "
                "files, or name another model in tokenizer.source or config_from"
            )
        return self._load(folder)

    def _load(self, folder: Path) -> ModelTokenizer:
        if folder not in self._loaded:
            self._loaded[folder] = ModelTokenizer.load(folder)
        return self._loaded[folder]

    def _chosen(
        self, ids: Mapping[str, int], own: Sequence[ModelTokenizer], lengths: Sequence[int]
    ) -> dict[int, tuple[int, int]]:
        """Return the source of each token that the section has one for."""
        chosen = {}
        for token, section in self._section.tokens.items():
            place, source = f"tokenizer.tokens.{token}", section.source
            if source is None:
                continue
            if not isinstance(source, str | ModelToken):
                chosen[ids[token]] = ZEROS
                continue
            name = source if isinstance(source, str) else source.model
            if name not in self._names:
                raise InputError(
                    f"{place}: source must be one of the models that are merged, "
                    f"{list(dict.fromkeys(self._names))}, got {name!r}"
                )
            number = self._names.index(name)
            theirs = token if isinstance(source, str) else source.token
            row = source.token_id if isinstance(source, ModelToken) else None
            if row is None:
                row = own[number].ids.get(str(theirs), lengths[number])
            if row >= lengths[number]:
                found = f"token {theirs!r}" if theirs is not None else f"row {row}"
                raise InputError(
                    f"{place}: {name} must have {found}, its embedding has {lengths[number]} rows "
                    "and none for it; name another source"
                )
            chosen[ids[token]] = (number, row)
        return chosen


def num_embedded(model: Source) -> int:
    """Return the number of rows of a model's token embeddings.

    Raises:
        InputError: it has none, or several of different sizes.
    """
    embeddings = {n: t.shape[0] for n, t in model.tensors.items() if is_token_embedding(n)}
    if len(set(embeddings.values())) != 1:
        raise InputError(
            f"{model.path}: tokenizer needs models with one vocabulary, got the token embeddings "
            f"{embeddings or 'none'}; remove tokenizer from the merge file"
        )
    return next(iter(embeddings.values()))


def _further_tokens(
    first: ModelTokenizer, others: Sequence[ModelTokenizer], lengths: Sequence[int]
) -> list[object]:
    """List the tokens that only others have: those of their models, then their added tokens.

    Tokens for which their own model has no row are left out.

    Source: `build_union_tokenizer` of mergekit.
    """
    plain: dict[str, None] = {}
    added: dict[str, object] = {}
    for other, length in zip(others, lengths, strict=True):
        settings = other.added
        for token, row in other.ids.items():
            if row >= length:
                continue
            if token in settings:
                added.setdefault(token, settings[token])
            elif token not in first.ids:
                plain[token] = None
    known = first.added
    return [
        *(token for token in plain if token not in added),
        *(settings for token, settings in added.items() if token not in known),
    ]
