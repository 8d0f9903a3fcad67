"""Mixed Barlow Twins: pretraining on images without labels.

Bandara et al. 2023, "Guarding Barlow Twins against overfitting with mixed samples",
https://arxiv.org/abs/2312.02151; the plain loss is that of Zbontar et al. 2021,
https://arxiv.org/abs/2103.03230. Two random views of an image get features that agree, and whose
dimensions are uncorrelated; the features of a mixed image are those of its parts, mixed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import Dataset

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.divergence import LossWatch
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.mixup import draw_share
from stockpot.ingredients.finetuning.partial_state import (
    OptimizerState,
    PartialState,
    Progress,
    Resumable,
)
from stockpot.ingredients.finetuning.random_state import global_generator
from stockpot.ingredients.finetuning.schedules import learning_rate_at
from stockpot.ingredients.finetuning.trained_parts import TrainedParts
from stockpot.seeding import derive_seed, seeded_generator
from stockpot.workloads.batches import num_examples, take, to_device
from stockpot.workloads.initialisation import initialised
from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.responses import observed

_SPLITS = ("pretrain", "train")


def redundancy_loss(first: Tensor, second: Tensor, redundancy: float) -> Tensor:
    """Return the loss of Barlow Twins: sum (C_ii - 1)^2 + redundancy * sum_(i != j) C_ij^2.

    Args:
        first: features of one view, standardised over the batch; (N, F).
        second: those of the other view, in the same order.
        redundancy: the paper's lambda.
    """
    between = _correlations(first, second)
    diagonal = between.diagonal()
    off_diagonal = between.square().sum() - diagonal.square().sum()
    return (diagonal - 1).square().sum() + redundancy * off_diagonal


def mixing_loss(
    mixed: Tensor, views: tuple[Tensor, Tensor], partners: Tensor, share: float
) -> Tensor:
    """Return how far correlations of mixed images are from the mixed correlations of their parts.

    || Zm'Zv - (share Z1'Zv + (1 - share) Z2[partners]'Zv) ||^2 / N^2, summed over both views v.

    Args:
        mixed: features of share * x_1 + (1 - share) * x_2[partners]; (N, F), standardised.
        views: those of x_1 and of x_2.
        partners: indices, (N,).
        share: in [0, 1].
    """
    first, second = views
    total = torch.zeros_like(mixed[0, 0])
    for view in views:
        expected = share * _correlations(first, view)
        expected = expected + (1 - share) * _correlations(second[partners], view)
        total = total + (_correlations(mixed, view) - expected).square().sum()
    return total


def standardised(features: Tensor) -> Tensor:
    """Return features (N, F) with mean 0 and variance 1 over the batch; a constant one is 0."""
    return nn.functional.batch_norm(features, None, None, training=True)


def pretrain(
    workload: Workload,
    model: nn.Module,
    how: Hyperparameters,
    device: str,
    partial: PartialState | None,
) -> None:
    """Train all of a model but its head on the images of pretrain and train, in place.

    Labels are not used. The features are the inputs of the head, followed by a projector of two
    layers, which is discarded.

    Args:
        workload: has the images, and the augmentation that makes views.
        model: on the device.
        how: `pretrain_*`, the learning rate, its schedule, weight decay and batch size.
        device: where the model is.
        partial: stores the state; it stays at the end, so that a killed run does not repeat this.

    Raises:
        InputError: the inputs are not images, the augmentation does not change them, or the model
            has no layer before its head.
        Diverged: a loss is not finite or far above the first.
    """
    twins = _Twins.of(workload, model, how, device)
    parts: dict[str, Resumable] = {
        "model": model,
        "projector": twins.projector,
        "optimizer": OptimizerState(twins.adam),
    }
    identity = json.dumps([asdict(how), "barlow_twins", twins.total])
    done = partial.restore(parts, identity=identity) if partial else Progress()
    watch = LossWatch(twins.total, done.first_loss)
    saved = time.monotonic()
    for step, indices in twins.batches(done.step):
        watch.add(twins.train(step, indices), steps_done=step + 1)
        is_last = step + 1 == twins.total
        if is_last or time.monotonic() - saved >= (partial.every_seconds if partial else 30.0):
            watch.check()
            if partial:
                partial.save(parts, Progress(step + 1, watch.first_loss), identity=identity)
            saved = time.monotonic()


def pretraining_state(partial: PartialState) -> PartialState:
    """Return where the pretraining of a run stores its state, next to that of the run."""
    path = partial.path
    return PartialState(path.with_name(f"{path.stem}-pretrain{path.suffix}"), partial.every_seconds)


@dataclass(frozen=True, slots=True)
class _Twins:
    """The model, projector, optimizer and data of a pretraining."""

    workload: Workload
    model: nn.Module
    head: dict[str, nn.Module]
    projector: nn.Module
    adam: AdamW
    data: tuple[Dataset[Any], ...]
    how: Hyperparameters
    device: str
    steps_per_epoch: int

    @classmethod
    def of(cls, workload: Workload, model: nn.Module, how: Hyperparameters, device: str) -> _Twins:
        """Build the parts, and check that the workload and the model fit."""
        data = tuple(to_device(workload.dataset(split), device) for split in _SPLITS)
        parts = TrainedParts.of(model, how)
        names = sorted({name.rpartition(".")[0] for name in parts.head})
        head = {name: model.get_submodule(name) for name in names}
        steps = sum(map(num_examples, data)) // how.batch_size
        if how.batch_size < 2 or not steps:
            raise InputError(
                "batch_size: must be from 2 to the number of images for pretrain, got "
                f"{how.batch_size} of {sum(map(num_examples, data))}"
            )
        few = _images(take(data[0], torch.arange(2)), device)
        _check_views(workload, few, how)
        with torch.no_grad():  # and in eval mode, so that no statistics of BatchNorm move
            features = _features(workload, model.eval(), head, few)
        parts.begin_epoch(model, parts.probe_epochs)
        trained = [one for name, one in model.named_parameters() if name in parts.trained]
        body = [one for one in trained if all(one is not own for own in _parameters(head))]
        if not body:
            raise InputError("pretrain: needs trained layers before the head, got none")
        projector = initialised(
            lambda: _projector(features.shape[1], how.pretrain_width),
            seeded_generator(how.seed, "projector"),
        ).to(device)
        adam = AdamW([*body, *projector.parameters()], weight_decay=how.weight_decay, fused=True)
        return cls(workload, model, head, projector, adam, data, how, device, steps)

    @property
    def total(self) -> int:
        """The number of steps."""
        return self.how.pretrain_epochs * self.steps_per_epoch

    def batches(self, first: int) -> Iterator[tuple[int, Tensor]]:
        """Yield the number and the indices of each step from `first` on.

        A last, smaller batch is left out.
        """
        for epoch in range(first // self.steps_per_epoch, self.how.pretrain_epochs):
            generator = seeded_generator(self.how.seed, "pretraining order", epoch)
            order = torch.randperm(sum(map(num_examples, self.data)), generator=generator)
            start = epoch * self.steps_per_epoch
            for place, indices in enumerate(torch.split(order, self.how.batch_size)):
                if first <= start + place < start + self.steps_per_epoch:
                    yield start + place, indices

    def train(self, step: int, indices: Tensor) -> Tensor:
        """Do one step; return its loss."""
        how = self.how
        global_generator(torch.device(self.device)).manual_seed(
            derive_seed(how.seed, "pretraining model", step)
        )
        for group in self.adam.param_groups:
            group["lr"] = learning_rate_at(step, self.total, how)
        self.adam.zero_grad(set_to_none=True)
        loss = self._loss(step, _images(self._take(indices), self.device))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.adam.step()
        return loss.detach()

    def _loss(self, step: int, images: Batch) -> Tensor:
        how = self.how
        views = [_view(self.workload, images, how, f"view {number}", step) for number in (1, 2)]
        first, second = (self._embedded(view) for view in views)
        loss = redundancy_loss(first, second, how.pretrain_lambda)
        if not how.pretrain_mix:
            return loss
        share = draw_share(1.0, derive_seed(how.seed, "pretraining share", step))
        generator = seeded_generator(how.seed, "pretraining partners", step)
        partners = torch.randperm(len(first), generator=generator).to(first.device)
        pixels = share * views[0][0] + (1 - share) * views[1][0][partners]
        mixed = self._embedded((pixels, images[-1]))
        both = mixing_loss(mixed, (first, second), partners, share)
        return loss + how.pretrain_mix * how.pretrain_lambda * both

    def _embedded(self, batch: Batch) -> Tensor:
        return standardised(self.projector(_features(self.workload, self.model, self.head, batch)))

    def _take(self, indices: Tensor) -> Batch:
        """Return images of both splits; first those of pretrain, then those of train."""
        split = num_examples(self.data[0])
        own = (indices[indices < split], indices[indices >= split] - split)
        found = [take(data, rows) for data, rows in zip(self.data, own, strict=True) if len(rows)]
        return tuple(torch.cat(tensors) for tensors in zip(*found, strict=True))


def _correlations(first: Tensor, second: Tensor) -> Tensor:
    return first.T @ second / len(first)


def _projector(inputs: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
    )


def _parameters(modules: dict[str, nn.Module]) -> list[nn.Parameter]:
    return [one for module in modules.values() for one in module.parameters()]


def _images(batch: Batch, device: str) -> Batch:
    """Return a batch on the device without its labels: all are 0.

    Raises:
        InputError: the inputs are not one tensor of images.
    """
    images, targets = batch[0], batch[-1]
    if len(batch) != 2 or images.ndim != 4 or not images.is_floating_point():
        shapes = [tuple(tensor.shape[1:]) for tensor in batch[:-1]]
        raise InputError(
            f"pretrain: inputs must be images (N, C, H, W), got {shapes} per example; set it to "
            "none"
        )
    return images.to(device), torch.zeros_like(targets, device=device)


def _view(workload: Workload, images: Batch, how: Hyperparameters, name: str, step: int) -> Batch:
    generator = seeded_generator(how.seed, f"pretraining {name}", step)
    return workload.augment(images, how.pretrain_augmentation, generator)


def _check_views(workload: Workload, images: Batch, how: Hyperparameters) -> None:
    views = [_view(workload, images, how, name, 0)[0] for name in ("view 1", "view 2")]
    if torch.equal(*views):
        raise InputError(
            "pretrain: the workload's augmentation must change images, got two equal views"
        )


def _features(
    workload: Workload, model: nn.Module, head: dict[str, nn.Module], batch: Batch
) -> Tensor:
    """Return the inputs of the head, the first of its layers that is called; (N, F).

    Raises:
        InputError: no layer of the head is called with a tensor.
    """
    found: list[Tensor] = []
    with observed(head, lambda _name, _layer, inputs, _outputs: found.append(inputs)):
        workload.forward(model, batch)
    if not found:
        raise InputError(f"head: must be called with features, got {[*head]}, which are not")
    return found[0].flatten(1)
