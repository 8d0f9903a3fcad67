"""The causal_lm workload: next-token prediction on texts, by a model of transformers.

Importing this module, building a `CausalLanguageModel` and asking for its digest import no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from stockpot.errors import InputError
from stockpot.workloads.chosen_shifts import shifts_of_files, split_of_shifts
from stockpot.workloads.files import digest_of
from stockpot.workloads.protocol import SPLITS, Batch, Metric, Shift, Task
from stockpot.workloads.splits import source_split
from stockpot.workloads.tables.reading import Table
from stockpot.workloads.tables.split_rows import Rows, rows_of_splits
from stockpot.workloads.tables.table_formats import PLAIN
from stockpot.workloads.texts.pretrained import Pretrained
from stockpot.workloads.texts.text_data import open_data

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from stockpot.workloads.batches import TokenDataset

_log = logging.getLogger("stockpot")

_NO_TOKEN = -100  # ignored in targets
_DEFAULT_LENGTH = 512
_VERSION = 1  # raise it when the splits or their tokens change: it is part of the digest

Sequences = list[list[int]]


def log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean log-probability of each text's tokens, in nats; (N,).

    Args:
        outputs: the loss of each token (N, T), 0 where ignored.
        targets: the tokens (N, T), -100 where ignored.
    """
    return -outputs.sum(dim=1) / (targets != _NO_TOKEN).sum(dim=1)


class CausalLanguageModel:
    """Texts, split by their files or by the seed, with other files as shifts.

    Each row of a table is a text, followed by the end-of-text token. A plain text is cut into
    blocks of `max_length` tokens; an incomplete last block is dropped. The net is built by
    `AutoModelForCausalLM` in float32.

    Args:
        seed: fixes the splits, unless they are files.
        val_shifts: names of files next to those of the splits, which may be used for choices.
        test_shifts: names of further files, which are reported only; disjoint from `val_shifts`.
        model: a folder with model and tokenizer, or an id on the hub.
        data: a folder with train, val and test as tables (CSV, JSONL, Parquet) or plain texts
            (.txt), or train only; one file; or an id on the hub.
        text: the column of the texts.
        max_length: tokens per block, and most tokens per text; 0 is 512, or the model's limit if
            that is smaller.

    Raises:
        InputError: a shift is named twice; a file is missing; or transformers is not installed.
    """

    shift_names: ClassVar[tuple[str, ...] | None] = None
    task: Task = "language_model"
    metrics: Mapping[str, Metric]

    def __init__(  # noqa: PLR0913 (three of every workload, four of its own)
        self,
        seed: int,
        val_shifts: Sequence[str],
        test_shifts: Sequence[str],
        *,
        model: str,
        data: str,
        text: str = "text",
        max_length: int = 0,
    ) -> None:
        self.metrics = MappingProxyType({"log_likelihood": log_likelihood})
        self._seed = seed
        self._shift_splits = split_of_shifts("causal_lm", val_shifts, test_shifts)
        self._pretrained = Pretrained(model)
        self._data = open_data(data, self._shift_splits)
        self._text = text
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
        """Build the net with the pretrained weights; missing ones depend on `generator` alone."""
        return self._pretrained.build("AutoModelForCausalLM", generator)

    def dataset(self, split: str) -> TokenDataset:
        """Return token ids (N, T), mask (N, T) and the next tokens (N, T), -100 for none.

        Raises:
            InputError: there is no such split; or a table is damaged or lacks a column or a
                value; or val or test has a text of another split.
        """
        split = source_split("causal_lm", split, self._rows)
        if split not in self._datasets:
            table, indices = self._rows[split]
            sequences = self._sequences[table]
            self._datasets[split] = self._tensors([sequences[index] for index in indices])
        return self._datasets[split]

    def shifts(self) -> Mapping[str, Shift]:
        """Return the chosen shifts, each with the texts of the file of its name."""
        return shifts_of_files(self._shift_splits, self._shifted, self._data.shift_digest)

    def notes(self) -> list[str]:
        """Report the splits and shifts whose texts were cut."""
        self.dataset("train")  # all splits are read together
        for name in self._shift_splits:
            self._shifted(name)
        names = [*SPLITS, *(f"shift {name}" for name in self._shift_splits)]
        return [self._notes[name] for name in names if name in self._notes]

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:  # noqa: ARG002 (no augmentation)
        """Return the batch unchanged."""
        return batch

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of each next token, in nats, 0 where ignored; (N, T)."""
        from torch.nn import functional

        from stockpot.workloads.texts.tokens import inputs_of

        inputs = inputs_of(batch)
        targets = batch[-1]
        longest = inputs["input_ids"].shape[1]
        logits: Tensor = model(**inputs, use_cache=False).logits  # (N, longest, V)
        losses = functional.cross_entropy(
            logits.transpose(1, 2), targets[:, :longest], reduction="none", ignore_index=_NO_TOKEN
        )
        return functional.pad(losses, (0, targets.shape[1] - longest))

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of each text's tokens, in nats; (N,).

        Raises:
            InputError: `label_smoothing` is not 0.
        """
        if label_smoothing:
            raise InputError(
                f"causal_lm: label_smoothing must be 0, since outputs are losses of tokens, "
                f"got {label_smoothing}"
            )
        return -log_likelihood(outputs, batch[-1])

    @cached_property
    def _rows(self) -> dict[str, Rows]:
        contents = {
            name: [tuple(tokens) for tokens in sequences]
            for name, sequences in self._sequences.items()
        }
        return rows_of_splits(contents, self._where, self._seed)

    @cached_property
    def _sequences(self) -> dict[str, Sequences]:
        """The tokens of each table's texts or blocks."""
        return {name: self._tokenized(name, table) for name, table in self._tables.items()}

    @cached_property
    def _tables(self) -> dict[str, Table]:
        return self._data.splits((self._text,))

    def _where(self, table: str, row: int) -> str:
        found = self._tables[table]
        return f"{found.path}: block {row + 1}" if found.path.suffix == PLAIN else found.where(row)

    def _shifted(self, name: str) -> TokenDataset:
        key = f"shift {name}"
        if key not in self._datasets:
            table = self._data.shift(name, (self._text,))
            self._datasets[key] = self._tensors(self._tokenized(key, table))
        return self._datasets[key]

    def _tokenized(self, name: str, table: Table) -> Sequences:
        from stockpot.workloads.texts.sequences import blocks, documents
        from stockpot.workloads.texts.tokens import cut_note

        tokenizer = self._pretrained.tokenizer
        default = min(_DEFAULT_LENGTH, self._pretrained.longest)
        longest = self._pretrained.check_length(self._max_length or default)
        texts = table.texts(self._text)
        if table.path.suffix == PLAIN:
            return blocks(tokenizer, texts[0], longest, table.path)
        sequences, num_cut = documents(tokenizer, texts, longest, table.where)
        if num_cut:
            self._notes[name] = cut_note(num_cut, len(texts), name, longest)
            _log.warning(self._notes[name])
        return sequences

    def _tensors(self, sequences: Sequences) -> TokenDataset:
        import torch

        from stockpot.workloads.batches import TokenDataset
        from stockpot.workloads.texts.tokens import padded

        tokens = padded(sequences, self._pretrained.tokenizer.pad_token_id or 0)
        ids, mask = tokens.inputs["input_ids"], tokens.inputs["attention_mask"]
        targets = torch.full_like(ids, _NO_TOKEN)
        targets[:, :-1] = ids[:, 1:].masked_fill(mask[:, 1:] == 0, _NO_TOKEN)
        return TokenDataset(ids, mask, targets, lengths=tokens.lengths)
