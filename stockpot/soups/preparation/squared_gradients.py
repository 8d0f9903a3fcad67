"""The terms of the Fisher information per task: numbers whose gradients are squared.

The information about a parameter is the mean over examples of E_y (d log p(y | x) / d theta)^2,
y ~ p. The task says what p is: a softmax over logits, a Gaussian of variance 1 around outputs, or
one softmax for each token, whose losses are the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Generator, Tensor

from stockpot.errors import InputError
from stockpot.workloads.example_gradients import ExampleGradients, Numbers
from stockpot.workloads.passes import CalledModel
from stockpot.workloads.protocol import Batch, Task, logits_of

NO_TOKEN = -100
"""The target that a language model ignores."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Numbers whose squared gradients add up to the information of some examples.

    Attributes:
        batch: N examples; targets may be sampled.
        numbers: computes the numbers of an example, from a row of `places`.
        places: (N, K) or (N, K, D), what `numbers` computes: one number for each of K.
        shares: (N, K), the factor on each squared gradient, at least 0.
    """

    batch: Batch
    numbers: Numbers
    places: Tensor
    shares: Tensor


TermsOf = Callable[[CalledModel, Batch, int, Generator], Iterator[Terms]]
"""Model, batch, number of draws, generator on the CPU -> the terms of the batch."""


def squared_gradients(gradients: ExampleGradients, terms: Terms) -> dict[str, Tensor]:
    """Sum the squared gradients of all terms, per example and number.

    Returns:
        The weighted sum for each parameter of the model, of its shape, float64.
    """
    most, totals = gradients.most_numbers(), dict[str, Tensor]()
    whole = (terms.places, terms.shares)
    for places, shares in zip(*(torch.split(each, most, dim=1) for each in whole), strict=True):
        parts = gradients.parts(terms.batch, terms.numbers, places, most=places.shape[1])
        for rows, found in parts:
            for name, gradient in found.items():  # (R, K, ...)
                own = torch.tensordot(shares[rows].to(gradient), gradient.square(), dims=2).double()
                totals[name] = totals[name] + own if name in totals else own
    return totals


def num_terms(batch: Batch, task: Task) -> int:
    """Return the number that the information of a batch is divided by: of examples, or tokens."""
    targets = batch[-1]
    return int((targets != NO_TOKEN).sum()) if task == "language_model" else len(targets)


def num_classes(model: CalledModel, batch: Batch) -> int:
    """Return the number of classes of a classifier.

    Raises:
        InputError: the outputs are not those of a classifier.
    """
    return _in_classes(model, batch).shape[1]


def sample_labels(probabilities: Tensor, draws: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Sample labels from the model's distribution, with replacement.

    Args:
        probabilities: (N, C).
        draws: K, number of labels per example.
        generator: on the CPU, so that results do not depend on the device.

    Returns:
        Labels (N, K) and their shares (N, K), which are 1 / K.
    """
    cumulative = probabilities.double().cumsum(dim=-1)  # (N, C)
    drawn = torch.rand(len(probabilities), draws, generator=generator, dtype=torch.float64)
    places = drawn.to(cumulative.device) * cumulative[:, -1:]
    labels = torch.searchsorted(cumulative, places, right=True)
    labels = labels.clamp(max=probabilities.shape[1] - 1)
    return labels, torch.full(labels.shape, 1 / draws, device=labels.device)


def _log_probabilities(outputs: Tensor, _example: Batch, labels: Tensor) -> Tensor:
    return outputs.log_softmax(dim=-1)[0].gather(0, labels[0])


def _chosen(outputs: Tensor, _example: Batch, places: Tensor) -> Tensor:
    return outputs[0].flatten().gather(0, places[0])


def _total(outputs: Tensor, _example: Batch, _places: Tensor) -> Tensor:
    return outputs.sum().view(1)


def _along(outputs: Tensor, _example: Batch, directions: Tensor) -> Tensor:
    return directions[0] @ outputs[0].flatten()


def _in_classes(model: CalledModel, batch: Batch) -> Tensor:
    """Return the probabilities of classes; (N, C).

    Raises:
        InputError: the outputs are not those of a classifier.
    """
    logits = _outputs(model, batch)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(
            "fisher: classification needs a workload whose outputs are logits (N, C) of two "
            f"classes or more, got outputs of shape {tuple(logits.shape)}"
        )
    return logits.softmax(dim=-1)


def _outputs(model: CalledModel, batch: Batch) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = model(batch)
    return outputs


def _classes_exact(
    model: CalledModel, batch: Batch, _draws: int, _generator: Generator
) -> Iterator[Terms]:
    probabilities = _in_classes(model, batch)
    classes = torch.arange(probabilities.shape[1], device=probabilities.device)
    places = classes.expand(probabilities.shape)
    yield Terms(batch, _log_probabilities, places, probabilities)


def _classes_sampled(
    model: CalledModel, batch: Batch, draws: int, generator: Generator
) -> Iterator[Terms]:
    labels, shares = sample_labels(_in_classes(model, batch), draws, generator)
    yield Terms(batch, _log_probabilities, labels, shares)


def _classes_empirical(
    model: CalledModel, batch: Batch, _draws: int, _generator: Generator
) -> Iterator[Terms]:
    _in_classes(model, batch)
    labels = batch[-1].view(-1, 1)
    yield Terms(batch, _log_probabilities, labels, torch.ones_like(labels, dtype=torch.float32))


def _numbers_exact(
    model: CalledModel, batch: Batch, _draws: int, _generator: Generator
) -> Iterator[Terms]:
    """Each output by itself: E (sum_k (y_k - f_k) df_k)^2 = sum_k (df_k)^2 for variances of 1."""
    flat = _flat_outputs(model, batch)
    places = torch.arange(flat.shape[1], device=flat.device).expand(flat.shape)
    yield Terms(batch, _chosen, places, torch.ones_like(flat))


def _numbers_sampled(
    model: CalledModel, batch: Batch, draws: int, generator: Generator
) -> Iterator[Terms]:
    flat = _flat_outputs(model, batch)
    errors = torch.randn(len(flat), draws, flat.shape[1], generator=generator).to(flat)
    yield Terms(batch, _along, errors, torch.full_like(errors[..., 0], 1 / draws))


def _numbers_empirical(
    model: CalledModel, batch: Batch, _draws: int, _generator: Generator
) -> Iterator[Terms]:
    flat = _flat_outputs(model, batch)
    errors = (batch[-1].reshape(flat.shape) - flat).unsqueeze(1)  # (N, 1, D)
    yield Terms(batch, _along, errors, torch.ones_like(errors[..., 0]))


def _tokens_sampled(
    model: CalledModel, batch: Batch, draws: int, generator: Generator
) -> Iterator[Terms]:
    """A text's tokens in one gradient: drawn independently, their products are 0 on average."""
    *inputs, targets = batch
    with torch.no_grad():
        logits = logits_of(model.workload)(model.model, batch)  # (N, T', V)
    texts = zip(targets, logits, strict=True)
    sampled = torch.stack([_sampled_tokens(*text, draws, generator) for text in texts])
    shares = torch.full((len(targets), 1), 1 / draws, device=targets.device)
    for own in sampled.unbind(dim=1):  # (N, T)
        yield Terms((*inputs, own), _total, shares, shares)


def _tokens_empirical(
    _model: CalledModel, batch: Batch, _draws: int, _generator: Generator
) -> Iterator[Terms]:
    targets = batch[-1]  # (N, T)
    used = (targets != NO_TOKEN).any(dim=0).nonzero().squeeze(1)
    places = used.expand(len(targets), len(used))
    yield Terms(batch, _chosen, places, (targets[:, used] != NO_TOKEN).float())


def _flat_outputs(model: CalledModel, batch: Batch) -> Tensor:
    """Return the outputs of each example; (N, D)."""
    return _outputs(model, batch).reshape(len(batch[-1]), -1)


def _sampled_tokens(targets: Tensor, logits: Tensor, draws: int, generator: Generator) -> Tensor:
    """Return a text's targets, (K, T), with tokens that are drawn from the model."""
    places = (targets != NO_TOKEN).nonzero().squeeze(1)
    sampled = targets.repeat(draws, 1)
    if len(places):
        drawn, _ = sample_labels(logits[places].softmax(dim=-1), draws, generator)
        sampled[:, places] = drawn.T
    return sampled


TERMS: Mapping[tuple[Task, str], TermsOf] = MappingProxyType(
    {
        ("classification", "exact"): _classes_exact,
        ("classification", "sampled"): _classes_sampled,
        ("classification", "empirical"): _classes_empirical,
        ("regression", "exact"): _numbers_exact,
        ("regression", "sampled"): _numbers_sampled,
        ("regression", "empirical"): _numbers_empirical,
        ("language_model", "sampled"): _tokens_sampled,
        ("language_model", "empirical"): _tokens_empirical,
    }
)
"""The terms by task and estimator."""
