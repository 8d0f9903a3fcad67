"""Bases of the workloads of texts: for a pretrained model, and for one that predicts next tokens.

Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockpot.workloads.files import digest_of
from stockpot.workloads.protocol import Batch
from stockpot.workloads.tables.table_workload import TableWorkload
from stockpot.workloads.texts.pretrained import Pretrained
from stockpot.workloads.texts.text_data import open_data

if TYPE_CHECKING:
    from torch import Generator, nn

_DEFAULT_LENGTH = 512  # of a language model, whose own limit may be very large


class TextWorkload(TableWorkload):
    """Texts in tables, for a pretrained model of transformers.

    Args:
        seed: fixes the splits, unless they are files.
        val_shifts: names of files next to those of the splits, which may be used for choices.
        test_shifts: names of further files, which are reported only; disjoint from `val_shifts`.
        model: a folder with model and tokenizer, or an id on the hub.
        data: a folder with the tables train, val and test, or train only; one file; or an id on
            the hub.
        max_length: most tokens per text; 0 is the default of the class.

    Raises:
        InputError: a shift is named twice; a file is missing; or transformers is not installed.
    """

    def __init__(
        self,
        seed: int,
        val_shifts: Sequence[str],
        test_shifts: Sequence[str],
        *,
        model: str,
        data: str,
        max_length: int,
    ) -> None:
        super().__init__(seed, val_shifts, test_shifts)
        self._pretrained = Pretrained(model)
        self._data = open_data(data, self._shift_splits)
        self._max_length = max_length

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of the splits' and the model's files, and the seed."""
        return digest_of(data=super().data_digest(), model=self._pretrained.digest())

    @property
    def _longest(self) -> int:
        """The most tokens per text: the model's limit, unless `max_length` is lower."""
        return self._pretrained.check_length(self._max_length)

    @property
    def _padding(self) -> int:
        return self._pretrained.tokenizer.pad_token_id or 0


class LanguageModelWorkload(TextWorkload):
    """Texts for a model that predicts next tokens; arguments and errors as for `TextWorkload`."""

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the net with the pretrained weights; missing ones depend on `generator` alone."""
        return self._pretrained.build("AutoModelForCausalLM", generator)

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:  # noqa: ARG002 (no augmentation)
        """Return the batch unchanged."""
        return batch

    @property
    def _longest(self) -> int:
        """The most tokens per text: 512 or the model's limit, unless `max_length` is given."""
        default = min(_DEFAULT_LENGTH, self._pretrained.longest)
        return self._pretrained.check_length(self._max_length or default)
