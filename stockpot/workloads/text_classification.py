"""The text_classification workload: texts in classes, and a pretrained encoder of transformers.

Importing this module, building a `TextClassification` and asking for its digest import no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from stockpot.workloads.chosen_shifts import shifts_of_files, split_of_shifts
from stockpot.workloads.classification import accuracy, cross_entropies
from stockpot.workloads.files import digest_of
from stockpot.workloads.protocol import SPLITS, Batch, Metric, Shift, Task
from stockpot.workloads.splits import source_split
from stockpot.workloads.tables.reading import Table
from stockpot.workloads.tables.split_rows import rows_of_splits
from stockpot.workloads.texts.pretrained import Pretrained
from stockpot.workloads.texts.text_data import open_data

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from stockpot.workloads.batches import TokenDataset

_log = logging.getLogger("stockpot")

_MASKED = 0.15  # share of the tokens, as in BERT's training (Devlin et al. 2019)
_VERSION = 1  # raise it when the splits or their tokens change: it is part of the digest


class TextClassification:
    """Texts in classes, split by their files or by the seed, with other files as shifts.

    The net is built by `AutoModelForSequenceClassification` in float32: for BERT, a linear head on
    the pooled first token. Its classes are the sorted classes of train.

    Args:
        seed: fixes the splits, unless they are files.
        val_shifts: names of files next to those of the splits, which may be used for choices.
        test_shifts: names of further files, which are reported only; disjoint from `val_shifts`.
        model: a folder with model and tokenizer, or an id on the hub.
        data: a folder with the tables train, val and test (CSV, JSONL or Parquet), or train
            only; one file; or an id on the hub.
        text: the column of the texts.
        label: the column of the classes.
        text_pair: the column of the second text of each pair, if there is one.
        max_length: most tokens per text, longer ones are cut; 0 is the model's limit.

    Raises:
        InputError: a shift is named twice; a file is missing; or transformers is not installed.
    """

    shift_names: ClassVar[tuple[str, ...] | None] = None
    task: Task = "classification"
    metrics: Mapping[str, Metric]

    def __init__(  # noqa: PLR0913 (three of every workload, six of its own)
        self,
        seed: int,
        val_shifts: Sequence[str],
        test_shifts: Sequence[str],
        *,
        model: str,
        data: str,
        text: str = "text",
        label: str = "label",
        text_pair: str = "",
        max_length: int = 0,
    ) -> None:
        self.metrics = MappingProxyType({"accuracy": accuracy})
        self._seed = seed
        self._shift_splits = split_of_shifts("text_classification", val_shifts, test_shifts)
        self._pretrained = Pretrained(model)
        self._data = open_data(data, self._shift_splits)
        self._texts = (text, text_pair) if text_pair else (text,)
        self._label = label
        self._max_length = max_length
        self._datasets: dict[str, TokenDataset] = {}
        self._notes: dict[str, str] = {}

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of the splits' and the model's files, and the seed."""
        return digest_of(
            data=self._data.digest(),
            model=self._pretrained.digest(),
            seed=self._seed,
            version=_VERSION,
        )

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the net: the pretrained encoder, with a head from `generator` alone."""
        return self._pretrained.build(
            "AutoModelForSequenceClassification", generator, num_labels=len(self._classes)
        )

    def dataset(self, split: str) -> TokenDataset:
        """Return token ids (N, T), mask (N, T), perhaps types (N, T), and classes (N,).

        Raises:
            InputError: there is no such split; or a table is damaged, lacks a column, a value or
                a class; or val or test has an example of another split.
        """
        split = source_split("text_classification", split, self._rows)
        table, indices = self._rows[split]
        return self._cached(split, self._tables[table], indices)

    def shifts(self) -> Mapping[str, Shift]:
        """Return the chosen shifts, each with the texts of the file of its name."""
        return shifts_of_files(self._shift_splits, self._shifted, self._data.shift_digest)

    def notes(self) -> list[str]:
        """Report the splits and shifts whose texts were cut."""
        for split in SPLITS:
            self.dataset(split)
        for name in self._shift_splits:
            self._shifted(name)
        names = [*SPLITS, *(f"shift {name}" for name in self._shift_splits)]
        return [self._notes[name] for name in names if name in self._notes]

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:
        """Replace tokens by the mask token, else the unknown token: 15 % at strength 1.

        Without either token, texts are unchanged.
        """
        tokenizer = self._pretrained.tokenizer
        known = (tokenizer.mask_token_id, tokenizer.unk_token_id)
        hidden = next((token for token in known if token is not None), None)
        if strength == 0 or hidden is None:
            return batch
        import torch

        ids, *rest = batch
        special = torch.tensor(tokenizer.all_special_ids, device=ids.device)
        # Drawn on the CPU, so that every device sees the same bits.
        drawn = torch.rand(ids.shape, generator=generator).to(ids.device)
        is_hidden = (drawn < _MASKED * strength) & ~torch.isin(ids, special)
        return (ids.masked_fill(is_hidden, hidden), *rest)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits; (N, C)."""
        from stockpot.workloads.texts.tokens import inputs_of

        logits: Tensor = model(**inputs_of(batch)).logits
        return logits

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the cross entropy of each example; (N,)."""
        return cross_entropies(outputs, batch[-1], label_smoothing)

    @cached_property
    def _tables(self) -> dict[str, Table]:
        return self._data.splits((*self._texts, self._label))

    @cached_property
    def _rows(self) -> dict[str, tuple[str, Sequence[int]]]:
        """The table and the rows of each split."""
        tables = self._tables
        for name, table in tables.items():
            table.targets(self._label, self._classes)  # raises if a class is not one of train
            if name in ("val", "test"):
                table.check_all_present(self._label, self._classes)
        columns = {name: [table.texts(c) for c in self._texts] for name, table in tables.items()}
        contents = {name: list(zip(*texts, strict=True)) for name, texts in columns.items()}
        return rows_of_splits(
            contents,
            lambda name, row: tables[name].where(row),
            self._seed,
            tables["train"].texts(self._label),
        )

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return self._tables["train"].classes(self._label)

    def _shifted(self, name: str) -> TokenDataset:
        table = self._data.shift(name, (*self._texts, self._label))
        return self._cached(f"shift {name}", table, range(table.num_rows))

    def _cached(self, name: str, table: Table, indices: Sequence[int]) -> TokenDataset:
        """Return the tokens of rows of a table, cached by name."""
        if name not in self._datasets:
            self._datasets[name] = self._tokenized(name, table, indices)
        return self._datasets[name]

    def _tokenized(self, name: str, table: Table, indices: Sequence[int]) -> TokenDataset:
        import torch

        from stockpot.workloads.batches import TokenDataset
        from stockpot.workloads.texts.tokens import cut_note, tokenize

        all_targets = torch.tensor(table.targets(self._label, self._classes))
        columns = [table.texts(column) for column in self._texts]
        texts, *pairs = [[column[index] for index in indices] for column in columns]
        longest = self._pretrained.check_length(self._max_length)
        tokens = tokenize(self._pretrained.tokenizer, texts, pairs[0] if pairs else None, longest)
        if tokens.num_cut:
            self._notes[name] = cut_note(tokens.num_cut, len(texts), name, longest)
            _log.warning(self._notes[name])
        targets = all_targets[torch.tensor(indices)]
        return TokenDataset(*tokens.inputs.values(), targets, lengths=tokens.lengths)
