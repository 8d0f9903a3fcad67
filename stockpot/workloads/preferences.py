"""The preferences workload: pairs of responses, of which one is preferred, to a language model.

Importing this module, building a `Preferences` and asking for its digest import no torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockpot.errors import InputError
from stockpot.workloads.classification import accuracy
from stockpot.workloads.protocol import Batch, Metric, Task
from stockpot.workloads.tables.reading import Table
from stockpot.workloads.texts.text_workload import LanguageModelWorkload

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stockpot.workloads.batches import TokenDataset


class Preferences(LanguageModelWorkload):
    """Pairs of responses to prompts, split by their files or by the seed.

    The net is built by `AutoModelForCausalLM` in float32. Its outputs are the log-probabilities of
    both responses given the prompt, in nats: logits of the class 'the first' or 'the second'. The
    preferred response is the first one in every other row. The loss is that of supervised
    fine-tuning: the mean over the tokens of the preferred response. `anchor_loss: dpo` replaces it
    by a comparison of both. `dataset` has token ids (N, 2, T), mask (N, 2, T), mask of the
    responses' tokens (N, 2, T), and which response is preferred (N,).

    Args:
        seed: fixes the splits, unless they are files.
        val_shifts: names of files next to those of the splits, which may be used for choices.
        test_shifts: names of further files, which are reported only; disjoint from `val_shifts`.
        model: a folder with model and tokenizer, or an id on the hub.
        data: a folder with the tables train, val and test (CSV, JSONL or Parquet), or train
            only; one file; or an id on the hub.
        prompt: the column of the prompts; empty if there are none.
        chosen: the column of the preferred responses.
        rejected: the column of the other responses.
        max_length: most tokens of prompt and response, longer responses are cut; 0 is 512, or the
            model's limit if that is smaller.

    Attributes:
        compares_responses: outputs are log-probabilities of two responses, which DPO needs.

    Raises:
        InputError: a shift is named twice; a file is missing; or transformers is not installed.
    """

    name = "preferences"
    version = 1
    task: Task = "classification"
    compares_responses = True
    metrics: Mapping[str, Metric] = MappingProxyType({"accuracy": accuracy})

    def __init__(  # noqa: PLR0913 (three of every workload, six of its own)
        self,
        seed: int,
        val_shifts: Sequence[str],
        test_shifts: Sequence[str],
        *,
        model: str,
        data: str,
        prompt: str = "prompt",
        chosen: str = "chosen",
        rejected: str = "rejected",
        max_length: int = 0,
    ) -> None:
        super().__init__(
            seed, val_shifts, test_shifts, model=model, data=data, max_length=max_length
        )
        self._prompt, self._responses = prompt, (chosen, rejected)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the log-probability of both responses of each pair, in nats; (N, 2)."""
        from stockpot.workloads.texts.tokens import inputs_of

        ids, mask, is_response, preferred = batch
        inputs = inputs_of((ids.flatten(0, 1), mask.flatten(0, 1), preferred))
        tokens = inputs["input_ids"][:, 1:]  # (2 N, longest - 1)
        logits: Tensor = model(**inputs, use_cache=False).logits[:, :-1]
        found = logits.log_softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        counted = is_response.flatten(0, 1)[:, 1 : tokens.shape[1] + 1]
        return (found * counted).sum(dim=1).view(len(ids), 2)

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of the preferred response's tokens, in nats; (N,).

        Raises:
            InputError: `label_smoothing` is not 0.
        """
        if label_smoothing:
            raise InputError(
                "preferences: label_smoothing must be 0, since the loss is that of tokens, "
                f"got {label_smoothing}"
            )
        chosen = batch[-1].unsqueeze(1)
        lengths = batch[2].sum(dim=-1)  # (N, 2)
        return -(outputs.gather(1, chosen) / lengths.gather(1, chosen)).squeeze(1)

    def _columns(self) -> Sequence[str]:
        return (self._prompt, *self._responses) if self._prompt else self._responses

    def _contents(self) -> Mapping[str, Sequence[Hashable]]:
        return {name: self._pairs(table) for name, table in self._tables.items()}

    def _checked_labels(self) -> list[str]:
        """Return which response of each pair of train comes first in the tensors."""
        return [str(row % 2) for row in range(self._tables["train"].num_rows)]

    def _pairs(self, table: Table) -> list[tuple[str, ...]]:
        """Return the texts of each row: prompt, preferred and other response."""
        columns = [table.texts(column) for column in self._columns()]
        rows = list(zip(*columns, strict=True))
        for number, row in enumerate(rows):
            if row[-1] == row[-2]:
                raise InputError(
                    f"{table.where(number)}: {self._responses[0]} and {self._responses[1]} must "
                    f"differ, got {row[-1][:40]!r} twice"
                )
        return rows

    def _encoded(self, name: str, table: Table, indices: Sequence[int]) -> TokenDataset:
        import torch

        from stockpot.workloads.batches import TokenDataset
        from stockpot.workloads.texts.responses import padded_pairs, tokenized
        from stockpot.workloads.texts.tokens import cut_note

        rows = self._pairs(table)
        longest = self._longest
        tokenizer = self._pretrained.tokenizer
        prompts = [rows[index][0] if self._prompt else "" for index in indices]
        # The preferred response is the first one in every other row.
        ordered = [rows[index][-2:] if index % 2 == 0 else rows[index][:-3:-1] for index in indices]
        places = [table.where(index) for index in indices]
        pairs, num_cut = tokenized(tokenizer, prompts, ordered, longest, places)
        if num_cut:
            self._note(name, cut_note(num_cut, 2 * len(indices), name, longest))
        ids, mask, is_response = padded_pairs(pairs, self._padding)
        preferred = torch.tensor([index % 2 for index in indices])
        lengths = mask.sum(dim=-1).amax(dim=1)
        return TokenDataset(ids, mask, is_response, preferred, lengths=lengths)
