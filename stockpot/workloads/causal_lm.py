"""The causal_lm workload: next-token prediction on texts, by a model of transformers.

Importing this module, building a `CausalLanguageModel` and asking for its digest import no torch.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockpot.errors import InputError
from stockpot.workloads.metric_ranges import values_in
from stockpot.workloads.protocol import SPLITS, Batch, Metric, Task
from stockpot.workloads.tables.reading import Table
from stockpot.workloads.tables.table_formats import PLAIN
from stockpot.workloads.texts.text_workload import LanguageModelWorkload

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stockpot.workloads.batches import TokenDataset

_NO_TOKEN = -100  # ignored in targets

Sequences = list[list[int]]


@values_in(-math.inf, 0)
def log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean log-probability of each text's tokens, in nats; (N,).

    Args:
        outputs: the loss of each token (N, T), 0 where ignored.
        targets: the tokens (N, T), -100 where ignored.
    """
    return -outputs.sum(dim=1) / (targets != _NO_TOKEN).sum(dim=1)


class CausalLanguageModel(LanguageModelWorkload):
    """Texts, split by their files or by the seed, with other files as shifts.

    Each row of a table is a text, followed by the end-of-text token. A plain text is cut into
    blocks of `max_length` tokens; an incomplete last block is dropped. The net is built by
    `AutoModelForCausalLM` in float32. `dataset` has token ids (N, T), mask (N, T) and the next
    tokens (N, T), -100 for none.

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

    name = "causal_lm"
    version = 1
    task: Task = "language_model"
    metrics: Mapping[str, Metric] = MappingProxyType({"log_likelihood": log_likelihood})

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
        super().__init__(
            seed, val_shifts, test_shifts, model=model, data=data, max_length=max_length
        )
        self._text = text

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of each next token, in nats, 0 where ignored; (N, T)."""
        return self.token_losses(self.logits(model, batch), batch)

    def token_losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each next token (N, T) for the logits (N, T', V) of a batch."""
        from torch.nn import functional

        targets = batch[-1]
        longest = logits.shape[1]
        losses = functional.cross_entropy(
            logits.transpose(1, 2), targets[:, :longest], reduction="none", ignore_index=_NO_TOKEN
        )
        return functional.pad(losses, (0, targets.shape[1] - longest))

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits of each next token, up to the end of the longest text; (N, T', V)."""
        from stockpot.workloads.texts.tokens import inputs_of

        logits: Tensor = model(**inputs_of(batch), use_cache=False).logits
        return logits

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

    def _columns(self) -> Sequence[str]:
        return (self._text,)

    @cached_property
    def _sequences(self) -> Mapping[Path, Sequences]:
        """The tokens of each text or block, by the path of the table of a split."""
        return {table.path: self._tokenized(name, table) for name, table in self._tables.items()}

    def _contents(self) -> Mapping[str, Sequence[Hashable]]:
        return {
            name: [tuple(tokens) for tokens in self._sequences[table.path]]
            for name, table in self._tables.items()
        }

    def _where(self, table: str, row: int) -> str:
        found = self._tables[table]
        return f"{found.path}: block {row + 1}" if found.path.suffix == PLAIN else found.where(row)

    def _tokenized(self, name: str, table: Table) -> Sequences:
        from stockpot.workloads.texts.sequences import blocks, documents
        from stockpot.workloads.texts.tokens import cut_note

        tokenizer = self._pretrained.tokenizer
        longest = self._longest
        texts = table.texts(self._text)
        if table.path.suffix == PLAIN:
            return blocks(tokenizer, texts[0], longest, table.path)
        sequences, num_cut = documents(tokenizer, texts, longest, table.where)
        if num_cut:
            self._note(name, cut_note(num_cut, len(texts), name, longest))
        return sequences

    def _encoded(self, name: str, table: Table, indices: Sequence[int]) -> TokenDataset:
        import torch

        from stockpot.workloads.batches import TokenDataset
        from stockpot.workloads.texts.tokens import padded

        if name in SPLITS:
            found = self._sequences[table.path]
            sequences = [found[index] for index in indices]
        else:
            sequences = self._tokenized(name, table)
        ids, mask = padded(sequences, self._padding)
        targets = torch.full_like(ids, _NO_TOKEN)
        targets[:, :-1] = ids[:, 1:].masked_fill(mask[:, 1:] == 0, _NO_TOKEN)
        return TokenDataset(ids, mask, targets, lengths=mask.sum(dim=1))
