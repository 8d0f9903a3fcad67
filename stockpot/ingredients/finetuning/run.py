"""The state of a fine-tuning run: its model, its data, and the parts that change with each step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from stockpot.ingredients.finetuning.anchors import build_anchor
from stockpot.ingredients.finetuning.bags import Bags
from stockpot.ingredients.finetuning.compilation import compiled
from stockpot.ingredients.finetuning.data_pruning import difficulty_scores, pruned
from stockpot.ingredients.finetuning.data_shards import shard_rows
from stockpot.ingredients.finetuning.distance_record import DistanceRecord
from stockpot.ingredients.finetuning.dynamic_mask import build_dynamic_mask
from stockpot.ingredients.finetuning.early_stopping import EarlyStopping
from stockpot.ingredients.finetuning.gradient_norm_sampler import build_sampler
from stockpot.ingredients.finetuning.gradients import BatchGradient, LossScale
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.local_steps import LocalSteps
from stockpot.ingredients.finetuning.mixup import MixedBatch
from stockpot.ingredients.finetuning.objective import training_batch
from stockpot.ingredients.finetuning.optimizers import build_optimizer
from stockpot.ingredients.finetuning.partial_state import OptimizerState, Resumable
from stockpot.ingredients.finetuning.run_average import build_average
from stockpot.ingredients.finetuning.starting_model import starting_model
from stockpot.ingredients.finetuning.substitutes import insert_substitute
from stockpot.ingredients.finetuning.trained_parts import TrainedParts
from stockpot.merging.sparse_masks import Mask
from stockpot.merging.states import StateDict
from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import num_examples, shuffled_batches, subset, take, to_device
from stockpot.workloads.protocol import Batch, Workload


class Run:
    """The state of a run: what is fixed, and the parts that change with each step."""

    def __init__(  # noqa: PLR0913, PLR0917 (these arguments define a run)
        self,
        workload: Workload,
        start: Mapping[str, Tensor] | None,
        how: Hyperparameters,
        split: str,
        device: str,
        scores: Tensor | None,
        local: LocalSteps | None = None,
        anchor: Mapping[str, Tensor] | None = None,
        mask: Mask | None = None,
    ) -> None:
        """Build the model, the data and the other parts of a run, on the device."""
        self.workload, self.how, self.device = workload, how, device
        self.model = model = starting_model(workload, start, how, device, mask)
        self.local = local
        data = to_device(workload.dataset(split), device)
        if how.prunes_data and scores is None:
            scores = difficulty_scores(workload, start, how, split=split, device=device)
        self.data = _own_part(data, how, scores, local)
        self.steps_per_epoch = math.ceil(num_examples(self.data) / how.batch_size)
        self.epochs = how.probe_epochs + how.epochs
        self.total = self.epochs * self.steps_per_epoch  # steps
        if local:
            self.total, self.epochs = local.steps, math.ceil(local.steps / self.steps_per_epoch)
        self.identity = json.dumps([asdict(how), split, self.total, start is None])
        self.stopping = (
            EarlyStopping(workload, model, how.patience, device) if how.patience else None
        )
        self.bags = Bags(num_examples(self.data), how) if how.bag_size > 1 else None
        self.trained = TrainedParts.of(model, how)
        own = [name for name, _ in model.named_parameters()]
        self.substitute = insert_substitute(workload, model, self.data, how, device)
        if self.substitute:
            self.trained = self.substitute.trained
        self.trained.begin_epoch(model, how.probe_epochs)
        called = compiled(model, how.compiler)
        self.optimizer = build_optimizer(model, how)
        self.mask = build_dynamic_mask(model, self.optimizer, how, self.total)
        self.scale = LossScale(how.precision, device)
        self.sampler = build_sampler(workload, num_examples(self.data), how, device)
        self.gradient = BatchGradient(
            workload,
            called,
            self.optimizer,
            self.scale,
            how,
            self.sampler,
            build_anchor(workload, model, (anchor, start), how, self.data, device),
            self.bags,
        )
        self.average = build_average(model, how, self.steps_per_epoch)
        self.distances = (
            None
            if local or how.pretrain != "none"
            else DistanceRecord(own, self.plain(model.state_dict()), start)
        )

    @property
    def parts(self) -> dict[str, Resumable]:
        """The parts that change with each step, by name."""
        parts: dict[str, Resumable | None] = {
            "model": self.model,
            "optimizer": OptimizerState(self.optimizer),
            "mask": self.mask,
            "scale": self.scale,
            "average": self.average,
            "sampler": self.sampler,
            "stopping": self.stopping,
            "distances": self.distances,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def plain(self, weights: StateDict) -> StateDict:
        """Return the weights of the model itself, also if others are trained in their place."""
        return self.substitute.merged(weights) if self.substitute else weights

    def order(self, epoch: int) -> tuple[Tensor, ...]:
        """Return the indices of each batch of an epoch that uses each example once."""
        generator = seeded_generator(self.how.seed, "order", epoch)
        if self.bags:
            return self.bags.batches(generator)
        return shuffled_batches(self.data, self.how.batch_size, generator)

    def examples(self, indices: Tensor) -> Batch:
        """Return examples of the run, by their indices (N,), on the device."""
        return tuple(tensor.to(self.device) for tensor in take(self.data, indices))

    def batch(self, indices: Tensor, step: int) -> MixedBatch:
        """Return the batch of a step: augmented and mixed, with indices where they are needed."""
        batch = training_batch(self.workload, self.examples(indices), self.how, step)
        anchor = self.gradient.anchor
        if self.sampler or self.bags or (anchor and anchor.needs_rows):
            batch = replace(batch, rows=indices.to(self.device))
        return batch


def _own_part(
    data: Dataset[Any], how: Hyperparameters, scores: Tensor | None, local: LocalSteps | None
) -> Dataset[Any]:
    """Return the examples of a split that a run trains on."""
    if local:
        data = subset(data, local.rows)
    if how.shards > 1:
        rows = shard_rows(num_examples(data), how)
        data, scores = subset(data, rows), None if scores is None else scores[rows]
    if how.prunes_data:
        assert scores is not None
        data = pruned(data, scores, how)
    return data
