"""Training of nets side by side: of the weights between them, or of further nets (boosting)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import CannotMake
from stockpot.ingredients.finetuning.divergence import Diverged
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.partial_state import PartialState
from stockpot.merging.sparse_masks import Mask, nonzero_mask
from stockpot.merging.states import State, StateDict
from stockpot.soups.concat.concatenate import (
    WideNet,
    concatenate,
    kept_entries,
    observed_layers,
)
from stockpot.soups.concat.options import CONCAT_OPTIONS
from stockpot.storage.checkpoints import load_tensors, save_checkpoint
from stockpot.workloads.passes import Examples, empty_model, put_weights
from stockpot.workloads.protocol import Batch, Workload

_LARGEST_STEP = 2.0


@dataclass(frozen=True)
class Growth:
    """The training of nets side by side.

    Attributes:
        workload: its train split is used.
        folder: of the states of unfinished runs.
        key: of the soup: equal keys train equal nets.
        seed: of the training.
        device: where to train.
        options: of `concat`.
        save_every_seconds: minimum time between two saves of the state of a run.
        pruned: names of ingredients that are pruned, among those that are put side by side.
    """

    workload: Workload
    folder: Path
    key: str
    seed: int
    device: str
    options: Mapping[str, Any]
    save_every_seconds: float
    pruned: Sequence[str] = ()

    def grow(self, states: Sequence[State], coefficients: Sequence[float]) -> WideNet:
        """Put nets side by side, and train the wide net.

        The weights between the nets start at 0, where it is the nets' ensemble, or with `templates`
        as mixtures of the nets' own weights, as all weights between hidden units then stay. The
        zeros of pruned nets stay 0.

        Args:
            states: the weights of the nets, on the CPU.
            coefficients: the factors of their outputs.

        Raises:
            InputError: the nets cannot be put side by side, or are pruned and `templates` are set.

        Source: Pham et al. 2024 (MixtureGrowth, https://arxiv.org/abs/2311.04251).
        """
        if self.pruned and self._option("templates"):
            raise InputError(
                f"concat: templates are for nets that are not pruned, got {[*self.pruned]}: "
                "mixtures of templates fill zeros; remove templates, or sparsity from the sweep"
            )
        wide = concatenate(self.workload, states, coefficients)
        mask = kept_entries(self.workload, states) if self.pruned else None
        tuned = self._trained(self.workload, wide.weights, "grown", mask)
        return WideNet(tuned, wide.num_nets, wide.num_norms)

    def boost(self, states: list[State], coefficients: list[float], base: State) -> Boosted:
        """Add nets one after another, each trained on what the nets before it leave over.

        A further net starts from the base, with a head of zeros, and is trained on the loss of the
        sum of all outputs, in which the nets before it are fixed. It is added with the factor in
        [0, 2] that minimises the loss on train, times `eta`, so the loss on train never rises. If
        nets are pruned, a further one has the mask of the first.

        Args:
            states: the weights of the first nets, on the CPU.
            coefficients: the factors of their outputs.
            base: the weights that further nets start from.

        Raises:
            InputError: a language model, whose outputs cannot be added; or nets with a tied head.

        Source: Emami & Martinez-Munoz 2019 (https://arxiv.org/abs/1909.12098), algorithm 1, with
        the loss itself in place of the squared distance to its gradient.
        """
        if self.workload.task == "language_model":
            raise InputError("concat: stages add outputs, those of a language model are losses")
        head = observed_layers(self.workload, base)[-1]
        if head.is_tied:
            raise InputError(f"concat: stages need a head of its own, got the tied {head.name!r}")
        start = {
            name: torch.zeros_like(tensor) if name.rpartition(".")[0] == head.name else tensor
            for name, tensor in base.items()
        }
        mask = nonzero_mask(states[0]) if self.pruned else None
        train = Examples(self.workload, self.workload.dataset("train"), self.device)
        steps: list[dict[str, float]] = []
        for stage in range(1, self._option("stages") + 1):
            known = self._net(concatenate(self.workload, states, coefficients).weights)
            own = self._trained(_LeftOver(self.workload, known), start, f"stage-{stage}", mask)
            before, added = train.outputs(known), train.outputs(self._net(own))
            step, losses = _best_step(train, before, added, self._option("eta"))
            states, coefficients = [*states, own], [*coefficients, step]
            steps.append({"stage": stage, "factor": step, **losses})
        return Boosted(concatenate(self.workload, states, coefficients), steps)

    def _option(self, name: str) -> Any:
        return self.options.get(name, CONCAT_OPTIONS[name].default)

    def _net(self, weights: State) -> nn.Module:
        net = empty_model(self.workload, self.device)
        put_weights(net, {name: tensor.to(self.device) for name, tensor in weights.items()})
        return net

    def _trained(self, workload: Workload, start: State, name: str, mask: Mask | None) -> StateDict:
        """Train weights, or read them if an interrupted run of this key has trained them."""
        done = self.folder / f"{self.key}-{name}.safetensors"
        if done.is_file():
            return load_tensors(done)
        how = Hyperparameters.from_point(
            {
                "learning_rate": self._option("learning_rate"),
                "epochs": self._option("epochs"),
                "batch_size": self._option("batch_size"),
                "weight_decay": 0.0,
                "label_smoothing": 0.0,
                "mixup": 0.0,
                "augmentation": self._option("augmentation"),
                "templates": self._option("templates"),
                "seed": self.seed,
            }
        )
        partial = PartialState(self.folder / f"{self.key}-{name}.part", self.save_every_seconds)
        try:
            tuned = fine_tune(
                workload,
                start,
                how,
                split="train",
                device=self.device,
                partial=partial,
                mask=mask,
            )
        except Diverged as error:
            raise CannotMake(f"{name}: {error}") from error
        save_checkpoint(done, dict(tuned), {})
        return dict(tuned)


@dataclass(frozen=True)
class Boosted:
    """Nets that were added one after another, side by side.

    Attributes:
        wide: the wide net.
        steps: for each stage its number, its factor, and the loss on train before and after.
    """

    wide: WideNet
    steps: list[dict[str, float]]


class _LeftOver:
    """A workload in which the outputs of fixed nets are added to those of the model."""

    def __init__(self, workload: Workload, known: nn.Module) -> None:
        self._workload, self._known = workload, known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workload, name)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of outputs; (N, C)."""
        with torch.no_grad():
            known = self._workload.forward(self._known, batch)
        return known + self._workload.forward(model, batch)


def _best_step(
    train: Examples, before: Tensor, added: Tensor, eta: float
) -> tuple[float, dict[str, float]]:
    """Return the factor of added outputs, and the losses; convex losses have one best factor."""

    def loss(step: float) -> float:
        return train.losses(before + step * added).double().mean().item()

    found = minimize_scalar(loss, bounds=(0, _LARGEST_STEP), method="bounded")
    step = eta * float(found.x)
    first, after = loss(0.0), loss(step)
    if after > first:  # the best factor is 0, up to the search's tolerance
        step, after = 0.0, first
    return step, {"loss_before": first, "loss_after": after}
