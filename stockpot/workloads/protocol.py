"""The protocol of workloads; importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

from stockpot.errors import InputError

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.utils.data import Dataset

Batch: TypeAlias = "tuple[Tensor, ...]"
"""(inputs, targets); a workload may have more inputs, the targets are last."""

Metric: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""(outputs (N, C), targets (N,)) -> values (N,), float32, one per example; higher is better."""

Task: TypeAlias = Literal["classification", "regression", "language_model"]
"""The meaning of outputs and targets, which decides on the task's metrics.

classification    logits (N, C); targets (N,) are classes
regression        values (N,) or (N, D); targets likewise
language_model    the loss of each token (N, T), in nats; targets (N, T), -100 where ignored
"""

TASKS: tuple[str, ...] = get_args(Task)

SPLITS = ("pretrain", "train", "val", "test")
"""The splits that every workload has."""

REFERENCE = "reference"
"""The optional split of inputs on which outputs are compared with those of an anchor."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A named distribution shift of one split.

    Attributes:
        split: `val` (may be used for choices) or `test` (reported only).
        dataset: builds the shifted copy of that split, in the order of its examples, or a set of
            other examples. It depends on the seed, the options and the shift's name, not on other
            shifts: its predictions stay cached when shifts are added.
        is_copy: whether it holds the modified examples of its split, in their order; False for
            other examples, such as those of another file.
        digest: SHA-256 (hex) of the shift's own file, which is not part of `data_digest`, so that
            nothing is retrained for another shift; empty if there is none.
    """

    split: str
    dataset: Callable[[], Dataset[Any]]
    is_copy: bool = True
    digest: str = ""


class Workload(Protocol):
    """Data, model, loss and metrics of an experiment.

    Attributes:
        task: the meaning of outputs and targets.
        metrics: metrics by name; the first one is used for choices. The task's are added.
    """

    task: Task
    metrics: Mapping[str, Metric]

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of everything that the data depends on: files, seed, sizes.

        That includes the split `reference`, if there is one: it is part of the key of a training
        that uses it. It is called while an experiment is planned, so it must be fast.
        """
        ...

    def build_model(self, generator: Generator) -> nn.Module:
        """Build a model whose initial weights depend on `generator` alone."""
        ...

    def dataset(self, split: str) -> Dataset[Any]:
        """Return the examples of `split`: pretrain, train, val or test.

        Also `reference`, if the workload has an attribute `has_reference` that is True: inputs for
        `anchor_data: reference`, in the form of train; their targets are not used.
        """
        ...

    def shifts(self) -> Mapping[str, Shift]:
        """Return the shifts by name."""
        ...

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:
        """Return a randomly modified copy; `strength` is in [0, 1], 0 returns the batch itself."""
        ...

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the model's outputs for the inputs of `batch`; (N, C)."""
        ...

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the loss of each example; (N,)."""
        ...


MEMBERS = tuple(name for name in Workload.__annotations__ | vars(Workload) if name[0] != "_")
"""The names of all members of a `Workload`, checked when one is built."""


def splits_of(workload: Workload) -> tuple[str, ...]:
    """Return the splits of a workload, `reference` too if it has one; val and test are last."""
    return (*SPLITS[:2], REFERENCE, *SPLITS[2:]) if has_reference(workload) else SPLITS


def has_reference(workload: Workload) -> bool:
    """Whether a workload has the split `reference`."""
    return bool(getattr(workload, "has_reference", False))


def compares_responses(workload: Workload) -> bool:
    """Whether outputs are log-probabilities of two responses, of which targets name the better."""
    return bool(getattr(workload, "compares_responses", False))


def notes_of(workload: Workload) -> list[str]:
    """Return a workload's notes on its data, such as that texts were cut.

    They come from its optional method `notes`, which may read all splits.
    """
    notes: Callable[[], list[str]] | None = getattr(workload, "notes", None)
    return notes() if notes else []


def logits_of(workload: Workload) -> Callable[[nn.Module, Batch], Tensor]:
    """Return a language model's optional method `logits`, for choices that need to sample tokens.

    `logits(model, batch)` returns the logits of each next token, (N, T', V), where T' is at least
    the length of the longest text and V the number of tokens.

    Raises:
        InputError: the workload has no such method.
    """
    logits: Callable[[nn.Module, Batch], Tensor] | None = getattr(workload, "logits", None)
    if logits is None:
        raise InputError(
            "the workload: must have a method logits(model, batch), which returns the logits "
            "(N, T, V) of each next token, to sample tokens from the model, got none"
        )
    return logits


Corrupt: TypeAlias = "Callable[[Batch, str, Generator], Batch]"
"""(batch, name of a corruption, generator) -> a corrupted copy of the batch."""


def corrupt_of(workload: Workload) -> Corrupt:
    """Return a workload's optional method `corrupt`, for training on corrupted inputs.

    `corrupt(batch, name, generator)` returns a copy of a batch under one of the workload's
    corruptions, in the form of the batch; equal generators give equal copies.

    Raises:
        InputError: the workload has no such method.
    """
    corrupt: Corrupt | None = getattr(workload, "corrupt", None)
    if corrupt is None:
        raise InputError(
            "corruption: needs a workload with a method corrupt(batch, name, generator), got none; "
            "take a workload of images, or set it to none"
        )
    return corrupt
