"""Fine-tuning that is held near a reference model, or near the weights that it starts from.

The reference is the base, or a soup of independent fine-tunings (SALSA: Chegini et al. 2024,
https://arxiv.org/abs/2411.01798); compared are outputs on the training batch, or on further inputs
without labels (ZSCL: Zheng et al. 2023, https://arxiv.org/abs/2303.06628). PPO, with which SALSA
trains, is not here: preferences are learned from pairs by DPO, and a classifier's expected reward
is computed exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import Dataset

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.anchor_losses import (
    distillation,
    expected_reward,
    gaussian_divergence,
    kl_divergence,
    preference_loss,
)
from stockpot.ingredients.finetuning.anchor_rules import (
    check_anchor,
    compares_with_anchor,
    has_logits,
)
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.mixup import MixedBatch
from stockpot.ingredients.finetuning.objective import in_precision
from stockpot.ingredients.finetuning.starting_model import initial_model
from stockpot.seeding import seeded_generator
from stockpot.workloads.batch_norm import batch_norms
from stockpot.workloads.batches import num_examples, take, to_device
from stockpot.workloads.passes import Examples
from stockpot.workloads.protocol import Batch, Workload

Forward = Callable[[nn.Module, Batch], Tensor]


class Anchor:
    """The terms that a run adds to its loss to stay near a reference.

    The reference gets no gradient and is in eval mode. The model runs as in training, so with
    BatchNorm or dropout both differ from the start; only on further inputs, BatchNorm uses its
    running statistics and leaves them as they are.
    """

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        weights: Mapping[str, Tensor] | None,
        how: Hyperparameters,
        data: Dataset[Any],
        device: str,
    ) -> None:
        """Build the reference, and read the further inputs if there are some.

        Args:
            workload: runs the models.
            model: that is trained, before the first step.
            weights: of the reference; None if there is none.
            how: the hyperparameters of the run.
            data: the examples of the run, on the device.
            device: where to compute.

        Raises:
            InputError: the anchor does not fit the workload or another technique.
        """
        check_anchor(how, workload)
        self._workload, self._how, self._device = workload, how, device
        self._outputs = _Outputs(workload)
        self._distances: list[tuple[float, list[tuple[Tensor, Tensor]]]] = []
        if how.start_l2:
            self._distances.append((how.start_l2, _pairs(model, dict(model.named_parameters()))))
        self._reference: nn.Module | None = None
        self._inputs: Dataset[Any] | None = None
        self._known: Tensor | None = None
        if not compares_with_anchor(how):
            return
        if weights is None:
            raise InputError(f"anchor: {how.anchor} needs weights to stay near, got none")
        reference = initial_model(workload, weights, how, device).eval().requires_grad_(False)
        if how.anchor_loss == "l2":
            targets = dict(reference.named_parameters())
            self._distances.append((how.anchor_weight, _pairs(model, targets)))
            return
        self._reference = reference
        changes_inputs = how.augmentation or how.mixup or how.cutmix or how.corruption != "none"
        if how.anchor_data != "train":
            self._inputs = to_device(workload.dataset(how.anchor_data), device)
        elif not changes_inputs and workload.task != "language_model":
            examples = Examples(workload, data, device)
            self._known = examples.outputs(reference).clone()  # one may train with a clone

    @property
    def forward(self) -> Forward:
        """The forward pass of the model, of which the anchor may keep more than the outputs."""
        return self._outputs

    @property
    def needs_rows(self) -> bool:
        """Whether batches need the indices of their examples."""
        return self._known is not None

    def anchored(self, outputs: Tensor, losses: Tensor, batch: MixedBatch) -> Tensor:
        """Return the losses of a training batch with the anchor's; (N,).

        Args:
            outputs: of the model, of the latest call of `forward`.
            losses: of the workload, (N,).
            batch: the batch, or a part of one.
        """
        how = self._how
        if self._reference is None or self._inputs is not None:
            return losses
        own = outputs if self._outputs.logits is None else _wide(self._outputs.logits)
        other = self._reference_outputs(batch)
        match how.anchor_loss:
            case "dpo":
                return preference_loss(own, other, batch.first[-1], how.anchor_weight)
            case "bandit":
                losses = -expected_reward(own, _rewards(own, batch))
        return losses + how.anchor_weight * self._divergences(own, other, batch.first)

    def penalty(self, model: nn.Module, step: int) -> Tensor | None:
        """Return the part of the loss that is independent of the training batch, if there is any.

        It is the divergence on as many further inputs as a batch has examples, which the step
        draws, and the squared distances of weights.

        Args:
            model: that is trained, in the mode to use.
            step: from 0.
        """
        terms = [
            weight * torch.stack([(own - other).square().sum() for own, other in pairs]).sum()
            for weight, pairs in self._distances
        ]
        if self._inputs is not None:
            terms.append(self._how.anchor_weight * self._on_inputs(model, step))
        return torch.stack(terms).sum() if terms else None

    def _on_inputs(self, model: nn.Module, step: int) -> Tensor:
        assert self._inputs is not None
        generator = seeded_generator(self._how.seed, "anchor", step)
        size = (self._how.batch_size,)
        rows = torch.randint(num_examples(self._inputs), size, generator=generator)
        batch = tuple(tensor.to(self._device) for tensor in take(self._inputs, rows))
        device = batch[-1].device
        with _running_statistics(model), in_precision(self._how.precision, device):
            outputs = self._outputs(model, batch)
        own = outputs if self._outputs.logits is None else self._outputs.logits
        other = self._reference_outputs(MixedBatch(batch, batch, 1.0))
        return self._divergences(_wide(own), other, batch).mean()

    def _reference_outputs(self, batch: MixedBatch) -> Tensor:
        """Return what the losses compare: outputs (N, C), or logits (N, T, V)."""
        assert self._reference is not None
        if self._known is not None:
            assert batch.rows is not None
            return self._known[batch.rows]
        outputs = _Outputs(self._workload)
        with torch.no_grad(), in_precision(self._how.precision, batch.first[-1].device):
            found = outputs(self._reference, batch.first)
        return _wide(found if outputs.logits is None else outputs.logits)

    def _divergences(self, own: Tensor, other: Tensor, batch: Batch) -> Tensor:
        """Return the divergence of each example; (N,), the mean over tokens of a text."""
        task, how = self._workload.task, self._how
        if task == "regression":
            return gaussian_divergence(own.reshape(len(own), -1), other.reshape(len(own), -1))
        found = (
            distillation(own, other, how.anchor_temperature)
            if how.anchor_loss == "distil"
            else kl_divergence(own, other)
        )
        if task != "language_model":
            return found
        is_token = batch[-1][:, : found.shape[1]] >= 0
        return (found * is_token).sum(dim=1) / is_token.sum(dim=1)


def build_anchor(
    workload: Workload,
    model: nn.Module,
    weights: tuple[Mapping[str, Tensor] | None, Mapping[str, Tensor] | None],
    how: Hyperparameters,
    data: Dataset[Any],
    device: str,
) -> Anchor | None:
    """Build the anchor of a run; None if it has none.

    Args:
        workload: runs the models.
        model: that is trained, before the first step.
        weights: of the anchor, and of the start, which the base is unless it is given.
        how: the hyperparameters of the run.
        data: the examples of the run, on the device.
        device: where to compute.

    Raises:
        InputError: the anchor does not fit the workload or another technique.
    """
    if not (compares_with_anchor(how) or how.start_l2):
        return None
    anchor, start = weights
    held = start if anchor is None and how.anchor == "base" else anchor
    return Anchor(workload, model, held, how, data, device)


class _Outputs:
    """The forward pass of a workload; of a language model, it keeps the logits.

    Attributes:
        logits: of the latest call, (N, T, V); None of other workloads.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload: Any = workload
        self.logits: Tensor | None = None

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        workload = self._workload
        if workload.task != "language_model" or not has_logits(workload):
            outputs: Tensor = workload.forward(model, batch)
            return outputs
        self.logits = workload.logits(model, batch)
        losses: Tensor = workload.token_losses(self.logits, batch)
        return losses


def _wide(outputs: Tensor) -> Tensor:
    """Return outputs of half precision in float32."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def _pairs(model: nn.Module, targets: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pair each parameter that is trained with a copy of where it is held."""
    return [
        (parameter, targets[name].detach().clone())
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]


def _rewards(outputs: Tensor, batch: MixedBatch) -> Tensor:
    """Return the reward of each class: 1 for the target, or its share in a mixed example."""
    first, second = (
        one_hot(each[-1], outputs.shape[-1]).to(outputs) for each in (batch.first, batch.second)
    )
    return batch.share * first + (1 - batch.share) * second


@contextmanager
def _running_statistics(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm layers use their running statistics, and leave them unchanged."""
    norms: Sequence[nn.Module] = [norm for norm in batch_norms(model) if norm.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True
