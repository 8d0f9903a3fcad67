"""The training loop: batches, steps and epochs; each technique has its own file.

Every random choice is seeded by (seed, purpose, epoch or step), so a run that is killed and resumed
makes the same choices as an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial as bind

import torch
from torch import Tensor

from stockpot.ingredients.finetuning.adapters import TunedWeights, on_cpu
from stockpot.ingredients.finetuning.barlow_twins import pretrain, pretraining_state
from stockpot.ingredients.finetuning.combinations import check_combination
from stockpot.ingredients.finetuning.compilation import compiling
from stockpot.ingredients.finetuning.divergence import LossWatch, check_weights
from stockpot.ingredients.finetuning.gradients import clip
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.large_batches import adapted
from stockpot.ingredients.finetuning.local_steps import LocalSteps
from stockpot.ingredients.finetuning.optimizers import set_learning_rate
from stockpot.ingredients.finetuning.partial_state import PartialState, Progress
from stockpot.ingredients.finetuning.random_state import preserved_random_state
from stockpot.ingredients.finetuning.run import Run
from stockpot.ingredients.finetuning.run_average import recalibrated
from stockpot.ingredients.finetuning.sam import sharpness_aware
from stockpot.ingredients.finetuning.schedules import learning_rate_at
from stockpot.merging.sparse_masks import Mask
from stockpot.merging.states import StateDict
from stockpot.seeding import seeded_generator
from stockpot.workloads.batch_norm import batch_norms
from stockpot.workloads.protocol import Workload

OnEpoch = Callable[[int, Callable[[], TunedWeights]], None]

_RECALIBRATION_SHARE = 0.2  # of an epoch's batches, to measure BatchNorm statistics on


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
    mask: Mask | None = None,
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
        mask: the weights that are not 0 throughout the run; None for all.

    Returns:
        The model's state dict, on the CPU; with an adapter merged into it, the adapter too.

    Raises:
        Diverged: a loss is not finite or far above the first, or a weight is not finite.
        InputError: `start`, a name pattern or the adapter does not fit the model, or mixup,
            CutMix or the anchor does not fit the workload.
    """
    how = adapted(hyperparameters)
    check_combination(how, workload)
    states = [partial, pretraining_state(partial)] if partial else []
    with preserved_random_state(device):
        run = Run(workload, start, how, split, device, scores, local, anchor, mask)
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
    run: Run, done: Progress, partial: PartialState | None, on_epoch: OnEpoch | None
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


def _end_epoch(run: Run, steps_done: int, on_epoch: OnEpoch | None) -> None:
    if run.stopping:
        weights = _weights(run, steps_done)
        run.stopping.update(weights, run.plain(weights))
    epochs = steps_done // run.steps_per_epoch - run.how.probe_epochs
    if on_epoch and epochs > 0:
        on_epoch(epochs, lambda: _result(run, _weights(run, steps_done)))


def _result(run: Run, weights: StateDict) -> TunedWeights:
    """Return the result of a run that ends with these weights."""
    tuned = TunedWeights((name, on_cpu(tensor)) for name, tensor in run.plain(weights).items())
    tuned.distances = run.distances.pairs if run.distances else ()
    tuned.adapter = run.substitute.saved(weights) if run.substitute else None
    return tuned


def _batches(run: Run, epoch: int, first: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the number and the example indices of each step of an epoch, from step `first` on."""
    how, sampler = run.how, run.sampler
    rows = sampler.draw(epoch, seeded_generator(how.seed, "draws", epoch)) if sampler else None
    batches = run.order(epoch) if rows is None else torch.split(rows, how.batch_size)
    for step, indices in enumerate(batches, start=epoch * run.steps_per_epoch):
        if first <= step < run.total:
            yield step, indices


def _step(run: Run, step: int, indices: Tensor) -> Tensor:
    """Do one step; return the mean loss of its batch."""
    how = run.how
    batch = run.batch(indices, step)
    set_learning_rate(run.optimizer, _learning_rate(run, step))
    gradient = bind(run.gradient, batch, step)
    loss = sharpness_aware(gradient, run.model, how.sam_radius) if how.sam_radius else gradient()
    run.scale.unscale_(run.optimizer)
    if run.local:
        run.local.correct_(run.model)
    clip(run.optimizer, how.clip_norm)
    run.scale.step(run.optimizer)
    run.scale.update()
    if run.mask:
        run.mask.update(step)
    if run.average:
        run.average.update(step)
    if run.distances and run.distances.is_due(step + 1, run.total):
        run.distances.add(step + 1, run.plain(run.model.state_dict()))
    return loss


def _learning_rate(run: Run, step: int) -> float:
    """Return the learning rate of a step; the probe has its own schedule."""
    probe = run.how.probe_epochs * run.steps_per_epoch
    first, last = (0, probe) if step < probe else (probe, run.total)
    return learning_rate_at(step - first, last - first, run.how)


def _weights(run: Run, steps_done: int) -> StateDict:
    """Return the model's weights after `steps_done` steps, or their average if there is one."""
    state: StateDict = run.model.state_dict()
    averaged = run.average.after(steps_done) if run.average else None
    if averaged is None:
        return state
    # The average of equal tensors would be rounded.
    averaged |= {name: state[name] for name in run.trained.frozen}
    if not batch_norms(run.model):
        return averaged
    order = run.order(run.epochs)
    few = order[: max(1, round(_RECALIBRATION_SHARE * len(order)))]
    batches = [run.examples(indices) for indices in few]
    return recalibrated(run.model, averaged, run.workload, batches, run.trained.frozen)
