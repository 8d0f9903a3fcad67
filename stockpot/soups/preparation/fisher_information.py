"""Diagonal Fisher information of a model (Matena & Raffel 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.func import functional_call, grad, vmap

from stockpot.errors import InputError, unknown_name
from stockpot.merging.methods.fisher import Fisher
from stockpot.seeding import seeded_generator
from stockpot.soups.preparation.option_checks import check_whole_numbers
from stockpot.soups.preparation.train_examples import train_batches
from stockpot.workloads.passes import CalledModel, empty_model
from stockpot.workloads.protocol import Batch, Workload

ESTIMATORS = ("exact", "sampled", "empirical")

_GRADIENT_NUMBERS = 2**24  # numbers in gradients that are in memory at once: 64 MB


@dataclass(frozen=True, slots=True)
class FisherInformation:
    """Estimation of the diagonal Fisher information.

    Attributes:
        estimator: the labels whose gradients are squared. `exact`: all labels, weighted by the
            model's probabilities; `sampled`: labels sampled from the model, an unbiased estimate;
            `empirical`: the true labels, which is cheaper but not the Fisher information.
        n: number of examples of train; all, if there are fewer.
        draws: number of sampled labels per example, for `sampled` only.

    Raises:
        ValueError: an option is out of its range.
    """

    estimator: str = "exact"
    n: int = 256
    draws: int = 1

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise unknown_name("estimator", str(self.estimator), ESTIMATORS)
        check_whole_numbers(n=self.n, draws=self.draws)

    def compute(
        self, workload: Workload, weights: Mapping[str, Tensor], *, seed: int, device: str
    ) -> dict[str, Tensor]:
        """Estimate the information about each parameter of a model, in eval mode.

        Only `empirical` reads labels.

        Args:
            workload: a workload whose outputs (N, C) are logits of C >= 2 classes.
            weights: the model's state dict.
            seed: seed of the choice of examples, and of sampled labels.
            device: where it is computed.

        Returns:
            A tensor of non-negative numbers for each parameter, of its shape, float32, on the
            CPU. Buffers have none.

        Raises:
            InputError: the outputs are not those of a classifier.

        Source: the paper's diagonal Fisher, with the expectation over the model's own labels. The
        gradients are squared per example and label: the square of a batch's mean gradient, which
        some libraries use, is a different quantity.
        """
        model = empty_model(workload, device)
        model.load_state_dict(weights)
        outputs = CalledModel(workload, model)
        sums: dict[str, Tensor] = {}
        generator = seeded_generator(seed, "labels")
        num_examples = 0
        for batch in train_batches(workload, self.n, seed=seed, device=device):
            labels, shares = self._labels(outputs, batch, generator)
            own = squared_gradients(outputs, batch, labels, shares)
            sums = {name: sums[name] + own[name] for name in own} if sums else own
            num_examples += len(labels)
        return {name: (total / num_examples).float().cpu() for name, total in sums.items()}

    def side_information(self, cached: Mapping[str, Tensor]) -> Mapping[str, Fisher]:
        """Return the diagonal for each parameter, with the norm over all parameters."""
        norms = (torch.linalg.vector_norm(each, dtype=torch.float64) for each in cached.values())
        norm = math.hypot(*map(float, norms))
        return {name: Fisher(tensor, norm) for name, tensor in cached.items()}

    def _labels(
        self, outputs: CalledModel, batch: Batch, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Return labels (N, K) and their weights (N, K)."""
        if self.estimator == "empirical":
            labels = batch[-1].view(-1, 1)
            return labels, torch.ones(labels.shape, device=labels.device)
        with torch.no_grad():
            logits = outputs(batch)
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise InputError(
                "fisher: needs a workload whose outputs are logits (N, C) of two classes or "
                f"more, got outputs of shape {tuple(logits.shape)}"
            )
        probabilities = logits.softmax(dim=-1)
        if self.estimator == "sampled":
            return sample_labels(probabilities, self.draws, generator)
        classes = torch.arange(logits.shape[1], device=logits.device)
        return classes.expand(logits.shape), probabilities


def squared_gradients(
    outputs: CalledModel, batch: Batch, labels: Tensor, shares: Tensor
) -> dict[str, Tensor]:
    """Sum the squared gradients of log-probabilities, per example and label.

    Args:
        outputs: the model.
        batch: N examples.
        labels: (N, K), the labels whose log-probabilities are differentiated.
        shares: (N, K), the factor on each squared gradient, at least 0.

    Returns:
        The weighted sum for each parameter of the model, of its shape.
    """
    parameters = {name: parameter.detach() for name, parameter in outputs.named_parameters()}

    def log_probability(weights: dict[str, Tensor], example: Batch, label: Tensor) -> Tensor:
        one = tuple(tensor.unsqueeze(0) for tensor in example)
        logits: Tensor = functional_call(outputs, weights, (one,))  # (1, C)
        return logits.log_softmax(dim=-1)[0].gather(0, label.unsqueeze(0))[0]

    gradients_of = vmap(grad(log_probability), in_dims=(None, 0, 0))
    num_params = sum(parameter.numel() for parameter in parameters.values())
    every = torch.arange(labels.numel(), device=labels.device)
    totals: dict[str, Tensor] = {}
    for pairs in torch.split(every, max(1, _GRADIENT_NUMBERS // num_params)):
        part = tuple(tensor[pairs // labels.shape[1]] for tensor in batch)
        gradients = gradients_of(parameters, part, labels.reshape(-1)[pairs])
        share = shares.reshape(-1)[pairs]
        for name, gradient in gradients.items():  # (pairs, ...)
            own = torch.tensordot(share, gradient.square(), dims=1).double()
            short = name.removeprefix("model.")
            totals[short] = totals[short] + own if short in totals else own
    return totals


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
