"""The gradients of ingredients' own training at given weights, such as those of their soup."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.data_pruning import hardest
from stockpot.ingredients.finetuning.data_shards import shard_rows
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters, Value
from stockpot.ingredients.finetuning.large_batches import adapted
from stockpot.ingredients.finetuning.local_steps import LocalSteps
from stockpot.ingredients.finetuning.random_state import preserved_random_state
from stockpot.ingredients.finetuning.run import Run
from stockpot.ingredients.finetuning.sam import sharpness_aware
from stockpot.ingredients.finetuning.sparse_training import mask_gradients
from stockpot.merging.methods.inner_products import cosines_of, gram
from stockpot.merging.sparse_masks import Mask, magnitude_mask
from stockpot.merging.states import State
from stockpot.seeding import seeded_generator
from stockpot.storage.checkpoints import Checkpoint
from stockpot.workloads.batches import num_examples
from stockpot.workloads.protocol import Workload

_MOST_EXAMPLES, _BATCH_SIZE = 512, 64
_STEP = 0.01  # of a difference quotient, relative to the trained tensors
_PLAIN: Mapping[str, Value] = {
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "epochs": 1,
    "batch_size": _BATCH_SIZE,
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "augmentation": 0.0,
    "seed": 0,
}
_OF_IMPORTED = ("label_smoothing", "mixup", "cutmix", "augmentation", "frozen")

Scores = Callable[[Hyperparameters, Checkpoint | None], Tensor]
"""Hyperparameters, start (None: the base) -> the difficulty of each example of train, (N,)."""


@dataclass(frozen=True, slots=True)
class Training:
    """The examples and hyperparameters of an ingredient's training.

    Attributes:
        how: the hyperparameters.
        split: the split with its examples.
        rows: the part of the split, as a slice; None for all.
        start: the weights that it started from; None for the base.
        anchor: the weights that it was held near; None for the base.
    """

    how: Hyperparameters
    split: str = "train"
    rows: slice | None = None
    start: Checkpoint | None = None
    anchor: Checkpoint | None = None


def training_of(details: Mapping[str, Any]) -> Training | None:
    """Return the training of an ingredient by its record; None if it is unknown.

    The data of an imported one are known if its hyperparameter `data` names them: `train`,
    `pretrain`, or a part such as `train[0:500]`.
    """
    known = details.get("hyperparameters")
    if known is None:
        return None
    if "imported" not in details:
        how = Hyperparameters(**known)
        start, anchor = (
            Checkpoint(**details[name]) if name in details else None for name in ("start", "anchor")
        )
        is_known = how.anchor != "soup" or anchor is not None
        return Training(how, start=start, anchor=anchor) if is_known else None
    data = re.fullmatch(r"(train|pretrain)(?:\[(\d*):(\d*)\])?", str(known.get("data", "")))
    if data is None:
        return None
    objective = {name: known[name] for name in _OF_IMPORTED if name in known}
    try:
        how = Hyperparameters.from_point({**_PLAIN, **objective})
    except ValueError:
        return None
    split, *ends = data.groups()
    first, last = (int(end) if end else None for end in ends)
    return Training(how, split, None if first is last is None else slice(first, last))


@dataclass(frozen=True, slots=True)
class OwnGradients:
    """Computes gradients of trainings of one sweep.

    Attributes:
        workload: has the data and the losses.
        base: the weights that runs started from and were held near, unless they have others.
        load: returns the weights of a checkpoint.
        scores: of runs that train on a part of train.
        seed: draws the examples: the same ones for runs with the same data.
        device: where to compute.
    """

    workload: Workload
    base: State
    load: Callable[[Checkpoint], State]
    scores: Scores
    seed: int
    device: str

    def cosines(self, weights: State, trainings: Sequence[Training]) -> NDArray[np.float64]:
        """Return the cosines between the gradients of K trainings at the same weights; (K, K)."""
        vectors = [self.gradient(weights, training) for training in trainings]
        cosines: NDArray[np.float64] = cosines_of(gram(vectors)).numpy()
        return cosines

    def gradient(self, weights: State, training: Training) -> Tensor:
        """Return the gradient of a training's expected loss at some weights; (P,), on the CPU.

        It is the mean over at most 512 of the run's own examples, with its augmentation, mixing,
        losses and anchor, in eval mode and float32. Of what is not trained it is 0. Where other
        tensors are trained in place of the weights, such as an adapter's, it is the change of the
        weights for a small change of these along their own gradient. A sampler's draws are
        replaced by their expectation.
        """
        how = _at_once(training.how)
        count = num_examples(self.workload.dataset(training.split))
        rows = torch.arange(count)[training.rows or slice(None)]
        if not len(rows):
            raise InputError(
                f"data: must name examples of {training.split}, which has {count}, got none"
            )
        rows = rows[shard_rows(len(rows), how)]
        own = self.scores(how, training.start) if how.prunes_data else None
        local = LocalSteps(rows, steps=1) if training.rows else None
        with preserved_random_state(self.device):
            # Distances are from a run's start; nothing else depends on it.
            start = self._weights_of(training.start) if how.start_l2 else weights
            anchor = None if how.anchor == "none" else self._weights_of(training.anchor)
            run = Run(self.workload, start, how, training.split, self.device, own, local, anchor)
            if how.start_l2:
                run.model.load_state_dict(weights)
            if mask := self._fixed_mask(training):
                mask_gradients(run.model, mask)
            run.model.eval()
            run.how = replace(how, seed=self.seed % 2**32)  # equal draws for equal objectives
            if own is not None:
                rows = rows[hardest(own[rows], how.kept_data, how.dropped_data)]
            ranks = torch.randperm(count, generator=seeded_generator(self.seed, "own examples"))
            chosen = ranks[rows].argsort()[:_MOST_EXAMPLES]
            if run.sampler:
                _gradients(run, chosen)  # which stores the norms
                run.sampler.weigh(chosen.to(self.device))
            gradients = _gradients(run, chosen)
            return _of_weights(run, gradients, _parameter_names(self.workload))

    def _fixed_mask(self, training: Training) -> Mask:
        """Return the weights that a run trains; empty for all, as of a mask that moves."""
        how = training.how
        if not how.sparsity or how.sparsity_update_every:
            return {}
        start = self._weights_of(training.start)
        mask = magnitude_mask(start, 1 - how.sparsity)
        return {name: kept.to(self.device) for name, kept in mask.items()}

    def _weights_of(self, checkpoint: Checkpoint | None) -> State:
        return self.base if checkpoint is None else self.load(checkpoint)


def _at_once(how: Hyperparameters) -> Hyperparameters:
    """Return hyperparameters without what changes steps, but not what they minimize."""
    return replace(
        adapted(how),
        batch_size=how.batch_size if how.bag_size > 1 else _BATCH_SIZE,
        probe_epochs=0,
        precision="float32",
        accumulation=1,
        average="none",
        sparsity=0.0,  # weights stay as they are: a fixed mask is one of gradients
        sparsity_update_every=0,
        patience=0,
        ghost_batch=0,
        compiler="none",
    )


def _gradients(run: Run, chosen: Tensor) -> dict[str, Tensor]:
    """Return the mean gradients of the trained tensors by name, on the device."""
    batches = torch.split(chosen, _BATCH_SIZE)
    if run.bags:
        batches = run.bags.batches(seeded_generator(run.how.seed, "own bags"))
        batches = batches[: -(-_MOST_EXAMPLES // run.how.batch_size)]
    total: dict[str, Tensor] = {}
    count = sum(map(len, batches))
    for step, indices in enumerate(batches):
        gradient = partial(run.gradient, run.batch(indices, step), step)
        if run.how.sam_radius:
            sharpness_aware(gradient, run.model, run.how.sam_radius)
        else:
            gradient()
        for name, parameter in run.model.named_parameters():
            if parameter.grad is not None:
                share = parameter.grad * (len(indices) / count)
                total[name] = total[name] + share if name in total else share
    return total


def _of_weights(run: Run, gradients: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Return the gradients of the plain model's parameters as one vector, on the CPU."""
    state = run.model.state_dict()
    found = gradients
    if run.substitute:
        length = torch.stack([each.norm() for each in gradients.values()]).norm()
        size = torch.stack([state[name].norm() for name in gradients]).norm()
        step = _STEP * max(1.0, float(size)) / max(float(length), 1e-30)
        ahead, behind = (
            run.plain(state | {n: state[n] + sign * g for n, g in gradients.items()})
            for sign in (step, -step)
        )
        found = {name: (ahead[name] - behind[name]) / (2 * step) for name in names}
    parts = [found.get(name, torch.zeros_like(run.plain(state)[name])) for name in names]
    return torch.cat([part.detach().reshape(-1).float().cpu() for part in parts])


def _parameter_names(workload: Workload) -> list[str]:
    model = workload.build_model(seeded_generator(0, "weights"))
    return [name for name, _ in model.named_parameters()]
