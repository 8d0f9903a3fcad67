"""Pairs of nets that were trained apart on the digits, and what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from alignment_nets import PreNormMlp, ResidualNet, mlp, outputs
from torch import Generator, Tensor, nn

from stockpot.diagnostics.line import LineScores, score_line
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.soups.alignment import align_to_first, match_weights, permute, repair, trace_spec
from stockpot.workloads.batches import take
from stockpot.workloads.classification import accuracy
from stockpot.workloads.digits import Digits
from stockpot.workloads.images.conv_net import ConvNet

State: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained, and how."""

    build: Callable[[], nn.Module]
    learning_rate: float = 1e-3
    epochs: int = 20


TRAININGS: Mapping[str, Training] = {
    "mlp": Training(partial(mlp, width=64)),
    "conv net": Training(partial(ConvNet, 10)),
    "residual batch norm": Training(
        partial(ResidualNet, pool=True, times=10, stride=2), learning_rate=1e-2
    ),
    "residual layer norm": Training(partial(PreNormMlp, 64)),
}


class DigitsWith(Digits):
    """The digits with another net, whose tensors are drawn as He et al. do."""

    def __init__(self, build: Callable[[], nn.Module], seed: int = 0) -> None:
        super().__init__(seed, ["noise"], ["blur"])
        self._build = build

    def build_model(self, generator: Generator) -> nn.Module:
        net = self._build()
        for name, parameter in net.named_parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        return net


@dataclass(frozen=True, slots=True)
class Barriers:
    """How far loss and accuracy of nets on a line are from what its ends let one expect."""

    loss: float
    accuracy: float


class Pair:
    """Two nets that were trained apart from weights of their own, as they are and matched."""

    def __init__(
        self, training: Training, seeds: tuple[int, int] = (1, 2), split_seed: int = 0
    ) -> None:
        self.workload = DigitsWith(training.build, split_seed)
        self.net = self.workload.build_model(Generator().manual_seed(0)).eval()
        self.first, self.second = (self._train(training, seed) for seed in seeds)
        train = self.workload.dataset("train")
        self.batches = [take(train, indices) for indices in torch.arange(300).split(100)]
        self.inputs = train.tensors[0]
        spec = trace_spec(self.net, self.inputs[:10])
        found = match_weights(self.first, self.second, spec)
        self.weights_matched = permute(self.second, spec, found.permutations)
        self.aligned = align_to_first(self.net, [self.first, self.second], self.inputs)[1]

    def barriers(self, second: State, *, is_repaired: bool) -> Barriers:
        """Measure those between the first net and `second` on val."""
        accuracies = []

        def score(state: State) -> float:
            accuracies.append(self.accuracy(state))
            return self._loss(state)

        def correct(merged: State, share: float) -> State:
            parents, coefficients = (self.first, second), (1 - share, share)
            forward = self.workload.forward
            return repair(self.net, parents, coefficients, merged, forward, self.batches)

        correction = correct if is_repaired else None
        line = score_line(self.first, second, score, num_points=5, correct=correction)
        of_accuracy = LineScores(line.shares, tuple(accuracies))
        return Barriers(line.loss_barrier, of_accuracy.accuracy_barrier)

    def accuracy(self, state: State, split: str = "val") -> float:
        """Return the share of a split's examples that are right."""
        images, targets = self.workload.dataset(split).tensors
        return float(accuracy(outputs(self.net, dict(state), images), targets).mean())

    def _loss(self, state: State) -> float:
        images, targets = self.workload.dataset("val").tensors
        return float(nn.functional.cross_entropy(outputs(self.net, dict(state), images), targets))

    def _train(self, training: Training, seed: int) -> State:
        hyperparameters = Hyperparameters(
            learning_rate=training.learning_rate,
            weight_decay=0.0,
            epochs=training.epochs,
            batch_size=100,
            label_smoothing=0.0,
            mixup=0.0,
            augmentation=0.0,
            seed=seed,
        )
        return fine_tune(self.workload, None, hyperparameters, split="train")
