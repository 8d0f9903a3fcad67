"""One model asked several times, its answers averaged: what m-fold cost buys without a soup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from types import MappingProxyType

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
"""One stochastic pass of a net over a batch, at a strength; (N, C)."""


def repeated_outputs(
    workload: Workload,
    net: nn.Module,
    examples: Examples,
    repeats: Repeats,
    stream: tuple[int | str, ...],
) -> tuple[Tensor, Tensor]:
    """Average m stochastic predictions of one net.

    The first m of more repeats are those of m repeats. Nothing is drawn from torch's global
    generators, and the net's mode stays as it is. Where the net's answers are all one, averaging
    outputs returns them bit for bit.

    Args:
        workload: calls the net.
        net: in eval mode.
        examples: N of them.
        repeats: how often, and what differs.
        stream: names the random numbers.

    Returns:
        Outputs (N, C), or their logarithms where probabilities are averaged, and the loss of each
        example (N,).

    Raises:
        InputError: the source does not fit the net or the workload.

    Source: Puglisi et al. 2024, https://arxiv.org/abs/2405.03328, latent average stabilisation,
    which averages a representation; we average what comes out.
    """
    predict, average = SOURCES[repeats.source], AVERAGES[repeats.average]

    def predict_once(copy: int) -> Tensor:
        draws = seeded_generator(*stream, "repeat", copy)
        return examples.of_each(lambda b: predict(workload, net, b, repeats.strength, draws))

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
    """Let the net's dropout layers drop, and nothing else be as in training.

    Source: Gal and Ghahramani 2016, https://arxiv.org/abs/1506.02142.
    """
    with _dropping(net, generator):
        return workload.forward(net, batch)


@contextmanager
def _dropping(net: nn.Module, generator: Generator) -> Iterator[None]:
    """Put hooks on dropout layers, which draw from `generator` whatever mode the net is in."""
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
        yield


def _drop(
    generator: Generator, layer: _DropoutNd, inputs: tuple[Tensor], _outputs: Tensor
) -> Tensor:
    """Drop single values, or whole channels (N, C, ...), and scale up the others."""
    [values] = inputs
    is_by_value = isinstance(layer, nn.Dropout)
    shape = values.shape if is_by_value else (*values.shape[:2], *[1] * (values.ndim - 2))
    is_kept = torch.rand(shape, generator=generator).to(values.device) >= layer.p
    return torch.where(is_kept, values / (1 - layer.p) if layer.p < 1 else values, 0.0)


SOURCES: Mapping[RepeatSource, Source] = MappingProxyType(
    {"tta": predict_augmented, "noise": predict_noisy, "mc_dropout": predict_with_dropout}
)
AVERAGES: Mapping[RepeatAverage, Ensemble] = MappingProxyType(
    {"logits": mean_outputs, "probs": mean_probabilities}
)
