"""Masks of the entries in which a model's skill lies (He et al. 2025, Localize-and-Stitch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.soups.preparation.option_checks import check_whole_numbers
from stockpot.soups.preparation.protocol import Preparation
from stockpot.soups.preparation.train_examples import train_batches
from stockpot.workloads.passes import empty_model
from stockpot.workloads.protocol import Batch, Workload

_BIAS = 5.0  # logits of the first mask: of entries inside, and minus it outside


@dataclass(frozen=True, slots=True)
class Localization(Preparation):
    """Learning of a sparse mask of a task vector on labelled examples.

    Attributes:
        density: fraction of the model's entries in the mask, in (0, 1].
        n: number of examples of train; all, if there are fewer.
        steps: number of Adam steps, each on all examples.
        learning_rate: of Adam, about the change of a logit per step; above 0.
        l1: factor on the mean of the mask, which is added to the loss; at least 0.

    Raises:
        ValueError: an option is out of its range.
    """

    uses_base: ClassVar[bool] = True

    density: float = 0.01
    n: int = 64
    steps: int = 20
    learning_rate: float = 0.5
    l1: float = 1.0

    def __post_init__(self) -> None:
        check_whole_numbers(n=self.n, steps=self.steps)
        ranges = {
            "density": (0 < self.density <= 1, "in (0, 1]"),
            "learning_rate": (0 < self.learning_rate < float("inf"), "finite and above 0"),
            "l1": (0 <= self.l1 < float("inf"), "finite and at least 0"),
        }
        for name, (is_valid, rule) in ranges.items():
            if not is_valid:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")

    def compute(
        self,
        workload: Workload,
        weights: Mapping[str, Tensor],
        *,
        seed: int,
        device: str,
        base: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Learn the mask of a model's task vector, in eval mode.

        The mask is sigmoid(S), and S is moved by Adam to lower the mean loss of the model
        base + sigmoid(S) * (model - base), plus `l1` times the mean of the mask. It starts from
        the largest entries of the task vector. In the end, the largest entries of S are kept.

        Args:
            workload: its train split is used, with targets.
            weights: the model's state dict.
            seed: seed of the choice of examples.
            device: where it is computed.
            base: the state dict that the model was fine-tuned from.

        Returns:
            For each parameter a mask, bool, of its shape, on the CPU. Buffers have none.

        Raises:
            InputError: the loss is not finite.

        Source: the paper's localization, equation 3, for the initial mask of its code. Its code
        takes plain gradient steps (of 1e7), which suit one model and loss, keeps the entries above
        1/2, whose number depends on both, and pushes entries away from 1/2 (`l1_strength`), where
        the equation pushes all towards 0.
        """
        assert base is not None, "a preparation that uses the base is given it"
        net = empty_model(workload, device)
        net.load_state_dict(weights)
        names = [name for name, _ in net.named_parameters()]
        start = [base[name].to(device) for name in names]
        vectors = [weights[name].to(device) - one for name, one in zip(names, start, strict=True)]
        logits = [_BIAS * (2 * mask - 1) for mask in _largest(_magnitudes(vectors), self.density)]
        optimizer = torch.optim.Adam(logits, lr=self.learning_rate)
        batches = list(train_batches(workload, self.n, seed=seed, device=device))
        count = sum(logit.numel() for logit in logits)
        for _ in range(self.steps):
            slopes = _slopes(workload, net, batches, start, vectors, logits)
            for logit, vector, slope in zip(logits, vectors, slopes, strict=True):
                mask = logit.sigmoid()
                logit.grad = (slope * vector + self.l1 / count) * mask * (1 - mask)
            optimizer.step()
        masks = _largest(logits, self.density)
        return {name: mask.bool().cpu() for name, mask in zip(names, masks, strict=True)}


def _slopes(
    workload: Workload,
    net: nn.Module,
    batches: Sequence[Batch],
    start: Sequence[Tensor],
    vectors: Sequence[Tensor],
    logits: Sequence[Tensor],
) -> list[Tensor]:
    """Return the gradient of the mean loss for the weights of the masked model."""
    parameters = list(net.parameters())
    with torch.no_grad():
        for parameter, first, vector, logit in zip(parameters, start, vectors, logits, strict=True):
            parameter.copy_(first + logit.sigmoid() * vector)
    total = torch.zeros((), device=start[0].device)
    net.zero_grad(set_to_none=True)
    num_examples = sum(len(batch[-1]) for batch in batches)
    for batch in batches:
        loss = workload.loss(workload.forward(net, batch), batch).sum() / num_examples
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    if not total.isfinite():
        raise InputError("localize_and_stitch: the loss of the masked model must be finite")
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


def _magnitudes(vectors: Sequence[Tensor]) -> list[Tensor]:
    return [vector.abs() for vector in vectors]


def _largest(values: Sequence[Tensor], density: float) -> list[Tensor]:
    """Return 1 for the fraction of all entries with the largest values, at least one; else 0."""
    flat = torch.cat([value.flatten() for value in values])
    chosen = flat.topk(max(1, round(density * len(flat))), sorted=False).indices
    kept = torch.zeros_like(flat).index_fill_(0, chosen, 1)
    pieces = torch.split(kept, [value.numel() for value in values])
    return [piece.view_as(value) for piece, value in zip(pieces, values, strict=True)]
