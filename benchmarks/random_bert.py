"""A workload of random texts for a BERT of MiniLM's size with random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor, nn

from stockpot.workloads.batches import TokenDataset
from stockpot.workloads.classification import accuracy
from stockpot.workloads.protocol import Batch, Metric, Shift, Task
from stockpot.workloads.texts.tokens import inputs_of

_SIZES = {"pretrain": 2, "train": 2, "val": 64, "test": 2}
_LENGTHS = (6, 60)
_VOCABULARY, _CLASSES = 30522, 4


class RandomBert:
    """Texts of 6 to 60 random tokens with random labels."""

    task: Task = "classification"
    metrics: Mapping[str, Metric] = {"accuracy": accuracy}

    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        """Keep the seed; there are no shifts."""
        assert not val_shifts
        assert not test_shifts
        self._seed = seed

    def data_digest(self) -> str:
        """Return what identifies the texts."""
        return f"random texts {self._seed}"

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the net."""
        from transformers import BertConfig, BertForSequenceClassification

        config = BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
            num_labels=_CLASSES,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())
            return BertForSequenceClassification(config)

    def dataset(self, split: str) -> TokenDataset:
        """Return the texts of a split and random labels."""
        generator = torch.Generator().manual_seed(len(split))
        size = _SIZES[split]
        lengths = torch.randint(*_LENGTHS, (size,), generator=generator)
        tokens = torch.randint(999, _VOCABULARY, (size, _LENGTHS[1]), generator=generator)
        mask = (torch.arange(_LENGTHS[1]) < lengths[:, None]).long()
        labels = torch.randint(_CLASSES, (size,), generator=generator)
        return TokenDataset(tokens * mask, mask, labels, lengths=lengths)

    def shifts(self) -> Mapping[str, Shift]:
        """Return none."""
        return {}

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:  # noqa: ARG002
        """Return the batch itself."""
        return batch

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits (N, C)."""
        logits: Tensor = model(**inputs_of(batch)).logits
        return logits

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the cross-entropy of each text."""
        return nn.functional.cross_entropy(
            outputs, batch[-1], reduction="none", label_smoothing=label_smoothing
        )
