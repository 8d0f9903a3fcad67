"""The training loop: batches, steps and epochs; each technique has its own file.

Every random choice is seeded by (seed, purpose, epoch or step), so a run that is killed and resumed
makes the same choices as an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial as bind

import torch
from torch import Tensor

from stockpot.ingredients.finetuning.adapters import TunedWeights, on_cpu
from stockpot.ingredients.finetuning.anchors import build_anchor
from stockpot.ingredients.finetuning.bags import Bags
from stockpot.ingredients.finetuning.barlow_twins import pretrain, pretraining_state
from stockpot.ingredients.finetuning.combinations import check_combination
from stockpot.ingredients.finetuning.compilation import compiled, compiling
from stockpot.ingredients.finetuning.data_pruning import difficulty_scores, pruned
from stockpot.ingredients.finetuning.divergence import LossWatch, check_weights
from stockpot.ingredients.finetuning.early_stopping import EarlyStopping
from stockpot.ingredients.finetuning.gradient_norm_sampler import GradientNormSampler
from stockpot.ingredients.finetuning.gradients import BatchGradient, LossScale, clip
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.large_batches import adapted
from stockpot.ingredients.finetuning.local_steps import LocalSteps
from stockpot.ingredients.finetuning.objective import training_batch
from stockpot.ingredients.finetuning.optimizers import build_optimizer, set_learning_rate
from stockpot.ingredients.finetuning.partial_state import (
    OptimizerState,
    PartialState,
    Progress,
    Resumable,
)
from stockpot.ingredients.finetuning.random_state import preserved_random_state
from stockpot.ingredients.finetuning.run_average import build_average, recalibrated
from stockpot.ingredients.finetuning.sam import sharpness_aware
from stockpot.ingredients.finetuning.schedules import learning_rate_at
from stockpot.ingredients.finetuning.starting_model import starting_model
from stockpot.ingredients.finetuning.substitutes import insert_substitute
from stockpot.ingredients.finetuning.trained_parts import TrainedParts
from stockpot.merging.states import StateDict
from stockpot.seeding import seeded_generator
from stockpot.workloads.batch_norm import batch_norms
from stockpot.workloads.batches import num_examples, shuffled_batches, subset, take, to_device
from stockpot.workloads.protocol import Batch, Workload

OnEpoch = Callable[[int, Callable[[], TunedWeights]], None]

_RECALIBRATION_SHARE = 0.2  # of an epoch's batches, to measure BatchNorm statistics on


class _Run:
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
    ) -> None:
        """Build the model, the data and the other parts of a run, on the device."""
        self.workload, self.how, self.device = workload, how, device
        self.model = model = starting_model(workload, start, how, device)
        self.data = to_device(workload.dataset(split), device)
        self.local = local
        if local:
            self.data = subset(self.data, local.rows)
        if how.prunes_data:
            if scores is None:
                scores = difficulty_scores(workload, start, how, split=split, device=device)
            self.data = pruned(self.data, scores, how)
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
        self.substitute = insert_substitute(workload, model, self.data, how, device)
        if self.substitute:
            self.trained = self.substitute.trained
        self.trained.begin_epoch(model, how.probe_epochs)
        called = compiled(model, how.compiler)
        self.optimizer = build_optimizer(model, how)
        self.scale = LossScale(how.precision, device)
        self.sampler = (
            GradientNormSampler(workload, num_examples(self.data), how, device)
            if how.sampler != "shuffle"
            else None
        )
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

    @property
    def parts(self) -> dict[str, Resumable]:
        """The parts that change with each step, by name."""
        parts: dict[str, Resumable | None] = {
            "model": self.model,
            "optimizer": OptimizerState(self.optimizer),
            "scale": self.scale,
            "average": self.average,
            "sampler": self.sampler,
            "stopping": self.stopping,
        }
        return {name: part for name, part in parts.items() if part is not None}


def fine_tune(  # noqa: PLR0913 (these arguments define a run)
    workload: Workload,
    start: Mapping[str, Tensor] | None,
    hyperparameters: Hyperparameters,
    *,
    split: str,
    device: str = "cpu",
    partial: PartialState | None = None,
    on_epoch: OnEpoch | None = None,
    scores: Tensor | None = None,
    local: LocalSteps | None = None,
    anchor: Mapping[str, Tensor] | None = None,
) -> TunedWeights:
    """Train a model on one split and return its weights.

    Equal arguments give bitwise equal weights for the same machine and number of threads, also if
    the run was killed and resumed. The global random state is restored at the end.

    Args:
        workload: what to train on.
        start: the initial weights; None draws them from the hyperparameters' seed.
        hyperparameters: of the run.
        split: the split to train on, `train` or `pretrain`.
        device: where to train, e.g. `cpu` or `cuda:0`.
        partial: stores the state of an unfinished run; the file is removed at the end.
        on_epoch: callback at the end of each epoch after the probe. Gets the number of these
            epochs that are done, and a function that returns the result if the run ended there.
        scores: difficulty of each example, (N,), for data pruning; None computes it.
        local: the examples and the number of steps of a client, and the correction of its
            gradients; None for a run of epochs over the whole split.
        anchor: weights of the model that the hyperparameter `anchor` names; None takes `start`
            for the base.

    Returns:
        The model's state dict, on the CPU; with an adapter merged into it, the adapter too.

    Raises:
        Diverged: a loss is not finite or far above the first, or a weight is not finite.
        InputError: `start`, a name pattern or the adapter does not fit the model, or mixup,
            CutMix or the anchor does not fit the workload.
    """
    how = adapted(hyperparameters)
    check_combination(how, workload.task)
    states = [partial, pretraining_state(partial)] if partial else []
    with preserved_random_state(device):
        run = _Run(workload, start, how, split, device, scores, local, anchor)
        done = partial.restore(run.parts, identity=run.identity) if partial else Progress()
        if how.pretrain != "none" and not done.step:
            pretrain(workload, run.model, how, device, states[1] if states else None)
        with compiling(how.compiler):
            first_loss = _train(run, done, partial, on_epoch)
        check_weights(run.model, run.total)
        weights = run.stopping.best if run.stopping else _weights(run, run.total)
    for state in states:
        state.remove()
    tuned = _result(run, weights)
    tuned.first_loss = first_loss
    return tuned


def _train(
    run: _Run, done: Progress, partial: PartialState | None, on_epoch: OnEpoch | None
) -> float | None:
    """Do the remaining steps; return the loss of the first step of the run."""
    watch = LossWatch(run.total, done.first_loss)
    saved = time.monotonic()
    for epoch in range(done.step // run.steps_per_epoch, run.epochs):
        if run.stopping and run.stopping.is_over:
            break
        run.trained.begin_epoch(run.model, epoch)
        for step, indices in _batches(run, epoch, done.step):
            watch.add(_step(run, step, indices), steps_done=step + 1)
            if (step + 1) % run.steps_per_epoch == 0:
                _end_epoch(run, step + 1, on_epoch)
            if partial is not None and time.monotonic() - saved >= partial.every_seconds:
                watch.check()
                progress = Progress(step + 1, watch.first_loss)
                partial.save(run.parts, progress, identity=run.identity)
                saved = time.monotonic()
        watch.check()
    return watch.first_loss


def _end_epoch(run: _Run, steps_done: int, on_epoch: OnEpoch | None) -> None:
    if run.stopping:
        weights = _weights(run, steps_done)
        run.stopping.update(weights, _plain(run, weights))
    epochs = steps_done // run.steps_per_epoch - run.how.probe_epochs
    if on_epoch and epochs > 0:
        on_epoch(epochs, lambda: _result(run, _weights(run, steps_done)))


def _result(run: _Run, weights: StateDict) -> TunedWeights:
    """Return the result of a run that ends with these weights."""
    tuned = TunedWeights((name, on_cpu(tensor)) for name, tensor in _plain(run, weights).items())
    tuned.adapter = run.substitute.saved(weights) if run.substitute else None
    return tuned


def _plain(run: _Run, weights: StateDict) -> StateDict:
    """Return the weights of the model itself, also if others are trained in their place."""
    return run.substitute.merged(weights) if run.substitute else weights


def _batches(run: _Run, epoch: int, first: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the number and the example indices of each step of an epoch, from step `first` on."""
    how, sampler = run.how, run.sampler
    rows = sampler.draw(epoch, seeded_generator(how.seed, "draws", epoch)) if sampler else None
    batches = _order(run, epoch) if rows is None else torch.split(rows, how.batch_size)
    for step, indices in enumerate(batches, start=epoch * run.steps_per_epoch):
        if first <= step < run.total:
            yield step, indices


def _order(run: _Run, epoch: int) -> tuple[Tensor, ...]:
    """Return the indices of each batch of an epoch that uses each example once."""
    generator = seeded_generator(run.how.seed, "order", epoch)
    if run.bags:
        return run.bags.batches(generator)
    return shuffled_batches(run.data, run.how.batch_size, generator)


def _examples(run: _Run, indices: Tensor) -> Batch:
    return tuple(tensor.to(run.device) for tensor in take(run.data, indices))


def _step(run: _Run, step: int, indices: Tensor) -> Tensor:
    """Do one step; return the mean loss of its batch."""
    how = run.how
    batch = training_batch(run.workload, _examples(run, indices), how, step)
    anchor = run.gradient.anchor
    if run.sampler or run.bags or (anchor and anchor.needs_rows):
        batch = replace(batch, rows=indices.to(run.device))
    set_learning_rate(run.optimizer, _learning_rate(run, step))
    gradient = bind(run.gradient, batch, step)
    loss = sharpness_aware(gradient, run.model, how.sam_radius) if how.sam_radius else gradient()
    run.scale.unscale_(run.optimizer)
    if run.local:
        run.local.correct_(run.model)
    clip(run.optimizer, how.clip_norm)
    run.scale.step(run.optimizer)
    run.scale.update()
    if run.average:
        run.average.update(step)
    return loss


def _learning_rate(run: _Run, step: int) -> float:
    """Return the learning rate of a step; the probe has its own schedule."""
    probe = run.how.probe_epochs * run.steps_per_epoch
    first, last = (0, probe) if step < probe else (probe, run.total)
    return learning_rate_at(step - first, last - first, run.how)


def _weights(run: _Run, steps_done: int) -> StateDict:
    """Return the model's weights after `steps_done` steps, or their average if there is one."""
    state: StateDict = run.model.state_dict()
    averaged = run.average.after(steps_done) if run.average else None
    if averaged is None:
        return state
    # The average of equal tensors would be rounded.
    averaged |= {name: state[name] for name in run.trained.frozen}
    if not batch_norms(run.model):
        return averaged
    order = _order(run, run.epochs)
    few = order[: max(1, round(_RECALIBRATION_SHARE * len(order)))]
    batches = [_examples(run, indices) for indices in few]
    return recalibrated(run.model, averaged, run.workload, batches, run.trained.frozen)
