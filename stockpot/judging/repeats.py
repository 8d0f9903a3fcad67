"""Averages of several stochastic forward passes of one model: a baseline at m-fold cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from stockpot.errors import InputError
from stockpot.judging.ensembles import Ensemble, mean_outputs, mean_probabilities
from stockpot.judging.job import RepeatAverage, Repeats, RepeatSource
from stockpot.seeding import seeded_generator
from stockpot.workloads.passes import Examples
from stockpot.workloads.protocol import Batch, Workload

Source = Callable[[Workload, nn.Module, Batch, float, Generator], Tensor]
"""(workload, net, batch, strength, generator) -> outputs (N, C) of one stochastic pass."""


def repeated_outputs(
    workload: Workload,
    net: nn.Module,
    examples: Examples,
    repeats: Repeats,
    stream: tuple[int | str, ...],
) -> tuple[Tensor, Tensor]:
    """Average m stochastic predictions of one net.

    The first m passes do not depend on the number of passes. Nothing is drawn from torch's global
    generators, and the net's mode does not change. If all passes are equal, averaging outputs
    returns them bit for bit.

    Args:
        workload: runs the net.
        net: in eval mode.
        examples: N examples.
        repeats: settings of the passes.
        stream: derives the seeds of the passes.

    Returns:
        Outputs (N, C), log-probabilities if probabilities are averaged, and the loss of each
        example (N,).

    Raises:
        InputError: the source does not fit the net or the workload.

    Source: Puglisi et al. 2024, https://arxiv.org/abs/2405.03328, latent average stabilisation,
    which averages a representation; here outputs are averaged.
    """
    predict, average = SOURCES[repeats.source], AVERAGES[repeats.average]

    def predict_once(copy: int) -> Tensor:
        draws = seeded_generator(*stream, "repeat", copy)
        return examples.map(lambda b: predict(workload, net, b, repeats.strength, draws))

    with torch.inference_mode():
        copies = [predict_once(copy) for copy in range(repeats.m)]
        outputs = average(copies).to(copies[0].dtype)
        return outputs, examples.losses(outputs)


def predict_augmented(
    workload: Workload, net: nn.Module, batch: Batch, strength: float, generator: Generator
) -> Tensor:
    """Augment the inputs as in training (test-time augmentation)."""
    return workload.forward(net, workload.augment(batch, strength, generator))


def predict_noisy(
    workload: Workload, net: nn.Module, batch: Batch, strength: float, generator: Generator
) -> Tensor:
    """Add Gaussian noise to the inputs, in units of their standard deviation in the batch."""
    inputs, *rest = batch
    if not inputs.is_floating_point():
        raise InputError(
            f"evaluate.repeats.source: noise needs inputs that are real numbers, got {inputs.dtype}"
        )
    # Drawn on the CPU, so that every device sees the same bits.
    noise = torch.randn(inputs.shape, generator=generator).to(inputs)
    return workload.forward(net, (inputs + strength * inputs.std() * noise, *rest))


def predict_with_dropout(
    workload: Workload,
    net: nn.Module,
    batch: Batch,
    strength: float,  # noqa: ARG001 (rates are the layers' own)
    generator: Generator,
) -> Tensor:
    """Run the net in eval mode except for its dropout layers, which drop by hooks.

    Source: Gal and Ghahramani 2016, https://arxiv.org/abs/1506.02142.
    """
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
    layers = [module for module in net.modules() if isinstance(module, kinds)]
    if not layers:
        raise InputError(
            "evaluate.repeats.source: mc_dropout needs a net with dropout layers, got none; "
            "use tta or noise"
        )
    with ExitStack() as hooks:
        for layer in layers:
            handle = layer.register_forward_hook(partial(_drop, generator))
            hooks.callback(handle.remove)
        return workload.forward(net, batch)


def _drop(
    generator: Generator, layer: _DropoutNd, inputs: tuple[Tensor], _outputs: Tensor
) -> Tensor:
    """Drop single values, or whole channels (N, C, ...), and scale up the rest."""
    [values] = inputs
    is_by_value = isinstance(layer, nn.Dropout)
    shape = values.shape if is_by_value else (*values.shape[:2], *[1] * (values.ndim - 2))
    is_kept = torch.rand(shape, generator=generator).to(values.device) >= layer.p
    return torch.where(is_kept, values / (1 - layer.p) if layer.p < 1 else values, 0.0)


SOURCES: Mapping[RepeatSource, Source] = {
    "tta": predict_augmented,
    "noise": predict_noisy,
    "mc_dropout": predict_with_dropout,
}
AVERAGES: Mapping[RepeatAverage, Ensemble] = {"logits": mean_outputs, "probs": mean_probabilities}
