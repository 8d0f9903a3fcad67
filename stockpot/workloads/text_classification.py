"""The text_classification workload: texts in classes, and a pretrained encoder of transformers.

Importing this module, building a `TextClassification` and asking for its digest import no torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockpot.workloads.classification import accuracy, cross_entropies
from stockpot.workloads.protocol import Batch, Metric, Task
from stockpot.workloads.tables.reading import Table
from stockpot.workloads.texts.text_workload import TextWorkload

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from stockpot.workloads.batches import TokenDataset

_MASKED = 0.15  # share of the tokens, as in BERT's training (Devlin et al. 2019)


class TextClassification(TextWorkload):
    """Texts in classes, split by their files or by the seed, with other files as shifts.

    The net is built by `AutoModelForSequenceClassification` in float32: for BERT, a linear head on
    the pooled first token. Its classes are the sorted classes of train. `dataset` has token ids
    (N, T), mask (N, T), types (N, T) of some models for pairs, and classes (N,).

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

    name = "text_classification"
    version = 1
    task: Task = "classification"
    metrics: Mapping[str, Metric] = MappingProxyType({"accuracy": accuracy})

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
        super().__init__(
            seed, val_shifts, test_shifts, model=model, data=data, max_length=max_length
        )
        self._texts = (text, text_pair) if text_pair else (text,)
        self._target = label

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the net: the pretrained encoder, with a head from `generator` alone."""
        return self._pretrained.build(
            "AutoModelForSequenceClassification", generator, num_labels=len(self._classes)
        )

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

    def _columns(self) -> Sequence[str]:
        return (*self._texts, self._target)

    def _contents(self) -> Mapping[str, Sequence[Hashable]]:
        columns = {
            name: [table.texts(column) for column in self._texts]
            for name, table in self._tables.items()
        }
        return {name: list(zip(*texts, strict=True)) for name, texts in columns.items()}

    def _encoded(self, name: str, table: Table, indices: Sequence[int]) -> TokenDataset:
        import torch

        from stockpot.workloads.batches import TokenDataset
        from stockpot.workloads.texts.tokens import cut_note, padded, tokenize

        columns = [table.texts(column) for column in self._texts]
        chosen = [[column[index] for index in indices] for column in columns]
        longest = self._longest
        tokens, num_cut = tokenize(self._pretrained.tokenizer, chosen, longest)
        if num_cut:
            self._note(name, cut_note(num_cut, len(indices), name, longest))
        ids, mask = padded(tokens["input_ids"], self._padding)
        has_types = len(columns) > 1 and "token_type_ids" in tokens
        types = [padded(tokens["token_type_ids"], 0)[0]] if has_types else []
        targets = torch.tensor(table.targets(self._target, self._classes))[torch.tensor(indices)]
        return TokenDataset(ids, mask, *types, targets, lengths=mask.sum(dim=1))
