"""What a workload must offer; importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.utils.data import Dataset

Batch: TypeAlias = "tuple[Tensor, ...]"
"""(inputs, targets); a workload may have more inputs, the targets are last."""

Metric: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""(outputs (N, C), targets (N,)) -> values (N,), float32, one an example; higher is better."""

Task: TypeAlias = Literal["classification", "regression", "language_model"]
"""What the outputs mean, and so which metrics are computed of them.

classification    logits (N, C); targets (N,) are classes
regression        values (N,) or (N, D); targets likewise
language_model    the loss of each token (N, T), in nats; targets (N, T), -100 where none counts
"""

TASKS: tuple[str, ...] = get_args(Task)

SPLITS = ("pretrain", "train", "val", "test")
"""The splits that every workload has."""

MEMBERS = (
    "task",
    "metrics",
    "data_digest",
    "build_model",
    "dataset",
    "shifts",
    "augment",
    "forward",
    "loss",
)
"""The names of all parts of a `Workload`, checked when one is built."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A named distribution shift of one split.

    Attributes:
        split: `val` (may guide choices) or `test` (reported only); never both.
        dataset: builds the shifted copy of that split, example by example in its order, or a set
            of other examples. It depends on the seed, the options and the shift's name, not on what
            other shifts there are: predictions on it are kept when others are added.
        is_copy: whether it holds the examples of its split, changed, in their order; False for
            other examples, such as a file of their own.
        digest: SHA-256 (hex) of a file of its own, which `data_digest` leaves out, so that nothing
            is trained again for another shift; empty if there is none.
    """

    split: str
    dataset: Callable[[], Dataset[Any]]
    is_copy: bool = True
    digest: str = ""


class Workload(Protocol):
    """What models are trained and judged on.

    Attributes:
        task: what the outputs mean.
        metrics: named metrics; the first one is what choices use. Those of the task come beside.
    """

    task: Task
    metrics: Mapping[str, Metric]

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of all that the data depends on: files, seed, sizes.

        It is called while an experiment is planned, so it should be cheap.
        """
        ...

    def build_model(self, generator: Generator) -> nn.Module:
        """Build a model whose initial weights depend on `generator` alone."""
        ...

    def dataset(self, split: str) -> Dataset[Any]:
        """Return the examples of `split`: pretrain, train, val or test."""
        ...

    def shifts(self) -> Mapping[str, Shift]:
        """Return the shifts by name."""
        ...

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:
        """Return a randomly changed copy; `strength` is in [0, 1], 0 returns the batch itself."""
        ...

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the model's outputs for the inputs of `batch`; (N, C)."""
        ...

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the loss of each example; (N,)."""
        ...


def noted_of(workload: Workload) -> list[str]:
    """Return what a workload has to say of its data, such as that texts were cut.

    It has a method `notes` if it has something to say at all; that may read all splits.
    """
    notes: Callable[[], list[str]] | None = getattr(workload, "notes", None)
    return notes() if notes else []
