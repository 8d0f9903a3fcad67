"""The gradient of a batch: accumulated over parts, in half precision, clipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from stockpot.ingredients.finetuning.anchors import Anchor
from stockpot.ingredients.finetuning.bags import Bags
from stockpot.ingredients.finetuning.gradient_norm_sampler import GradientNormSampler
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.mixup import MixedBatch
from stockpot.ingredients.finetuning.objective import outputs_and_losses, parts_of
from stockpot.ingredients.finetuning.random_state import global_generator
from stockpot.seeding import derive_seed
from stockpot.workloads.protocol import Workload


@dataclass(frozen=True, slots=True)
class BatchGradient:
    """Computes the gradient of a batch's mean loss, into the model's parameters.

    Attributes:
        workload: has the forward pass and the loss.
        model: in the mode to use.
        optimizer: of the model; its gradients are cleared first.
        scale: of losses in fp16, without which small gradients underflow; disabled otherwise.
        hyperparameters: of the run.
        sampler: weights the losses of the examples that it drew; None without weights.
        anchor: adds what holds the model near a reference; None for nothing.
        bags: has the losses where targets are known per bag; None where each example has its own.
    """

    workload: Workload
    model: nn.Module
    optimizer: Optimizer
    scale: LossScale
    hyperparameters: Hyperparameters
    sampler: GradientNormSampler | None = None
    anchor: Anchor | None = None
    bags: Bags | None = None

    def __call__(self, batch: MixedBatch, step: int) -> Tensor:
        """Compute the gradient, times the scale, and return the mean loss.

        The gradient is summed over `accumulation` parts of the batch, so that the activations of
        one part at a time are in memory. Without BatchNorm it equals that of the whole batch, up
        to rounding.
        """
        how, device = self.hyperparameters, batch.first[-1].device
        global_generator(device).manual_seed(derive_seed(how.seed, "model", step))
        self.optimizer.zero_grad(set_to_none=True)
        means = []
        for part in parts_of(batch, how.accumulation):
            forward = self.anchor.forward if self.anchor else None
            outputs, losses = outputs_and_losses(self.workload, self.model, part, how, forward)
            if self.bags:
                losses = self.bags.losses(self.workload, outputs, part)
            if self.anchor:
                losses = self.anchor.anchored(outputs, losses, part)
            if self.sampler:
                losses = self.sampler.weighted(losses, outputs, part)
            loss = losses.sum() / len(batch.first[-1])
            self.scale.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            means.append(loss.detach())
        penalty = self.anchor.penalty(self.model, step) if self.anchor else None
        if penalty is not None:
            self.scale.scale(penalty).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            means.append(penalty.detach())
        return sum(means[1:], start=means[0])


class LossScale(GradScaler):
    """Adaptive scale of losses for the range of fp16 (Micikevicius et al. 2018).

    https://arxiv.org/abs/1710.03740
    """

    def __init__(self, precision: str, device: str) -> None:
        super().__init__(torch.device(device).type, enabled=precision == "fp16")

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as tensors; empty if disabled."""
        return {
            name: torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
            for name, value in super().state_dict().items()
        }

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the state."""
        super().load_state_dict({name: tensor.item() for name, tensor in state_dict.items()})


def clip(optimizer: Optimizer, max_norm: float) -> None:
    """Clip the norm of the gradient of all parameters; 0 does not clip.

    Source: Pascanu et al. 2013, algorithm 1 (https://arxiv.org/abs/1211.5063).
    """
    if max_norm:
        everything = [one for group in optimizer.param_groups for one in group["params"]]
        nn.utils.clip_grad_norm_(everything, max_norm)
