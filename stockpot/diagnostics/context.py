"""What diagnostics look at: models with their weights, train and val. Test stays closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from stockpot.metric_units import Unit, unit_of_scores
from stockpot.scoring.predictions import load_outputs, predict
from stockpot.seeding import seeded_generator
from stockpot.statistics.values import are_fractions
from stockpot.storage.checkpoints import load_tensors, verify
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.workloads.batches import num_examples, take, to_device
from stockpot.workloads.passes import Examples, empty_model, put_weights
from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.spec import WorkloadSpec

State = Mapping[str, Tensor]
"""Tensors by name, on the CPU, as the checkpoint holds them."""


@dataclass(frozen=True)
class LoadedModel:
    """One model that is looked at.

    Attributes:
        root: the project root.
        model: what it is, with its val scores.
    """

    root: Path
    model: Model

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.model.name

    @cached_property
    def weights(self) -> State:
        """Its tensors, read once and checked against the digest."""
        return load_tensors(verify(self.root, self.model.checkpoint))


@dataclass(frozen=True)
class DiagnosticContext:
    """All that a diagnostic may look at.

    Attributes:
        workload: whose train and val may be opened.
        device: where forward passes run.
        seed: the experiment's; every random choice is drawn from it by purpose.
        metric: the workload's first metric, e.g. `accuracy`.
        base: what every ingredient started from.
        ingredients: in the order of the sweep.
        soups: soups and tuned soups, in the order of the table.
        shared: the folder for what diagnostics of the same ingredients keep for each other; None
            where nothing is kept.
        spec: what the workload was built from; None where no predictions are kept.
    """

    workload: Workload
    device: str
    seed: int
    metric: str
    base: LoadedModel
    ingredients: tuple[LoadedModel, ...]
    soups: tuple[LoadedModel, ...]
    shared: Path | None = None
    spec: WorkloadSpec | None = None

    @property
    def best_soup(self) -> LoadedModel:
        """The best soup on val."""
        return self.soups[self.rank(self.soups)[0]]

    def rank(self, models: Sequence[LoadedModel]) -> list[int]:
        """Return the positions of models from best to worst on val."""
        return rank([one.model for one in models], f"val/{self.metric}")

    @cached_property
    def val(self) -> Examples:
        """The val split, on the device."""
        return Examples(self.workload, self.workload.dataset("val"), self.device)

    @cached_property
    def val_shifts(self) -> Mapping[str, Examples]:
        """The shifts of val by name, on the device."""
        return {
            name: Examples(self.workload, shift.dataset(), self.device)
            for name, shift in self.workload.shifts().items()
            if shift.split == "val"
        }

    def probe(self, split: str, size: int) -> Batch:
        """Return the same `size` examples of train or val every time, or all where there are fewer.

        Raises:
            ValueError: `split` is neither train nor val.
        """
        if split not in ("train", "val"):
            raise ValueError(f"a probe is of train or val, got {split!r}")
        data = self.workload.dataset(split)
        generator = seeded_generator(self.seed, "probe", split)
        chosen = torch.randperm(num_examples(data), generator=generator)[:size]
        batch = take(to_device(data, self.device), chosen)
        return tuple(tensor.to(self.device) for tensor in batch)

    def outputs(self, subject: LoadedModel, set_name: str) -> Tensor:
        """Return a model's outputs on `val` or `val_shift/<name>`, kept ones if there are; (N, C).

        Raises:
            ValueError: the set is neither val nor one of its shifts.
        """
        split, _, shift = set_name.partition("_shift/")
        if split != "val" or (shift and shift not in self.val_shifts):
            raise ValueError(f"outputs are on val and its shifts, got {set_name!r}")
        if self.spec is None:
            examples = self.val_shifts[shift] if shift else self.val
            return examples.outputs(self.net(subject.weights)).cpu()
        predict(subject.root, self.spec, subject.model.checkpoint, self.device, [set_name])
        return load_outputs(subject.root, self.spec, subject.model.digest, set_name)

    def net(self, weights: State) -> nn.Module:
        """Return the workload's model with these weights, in eval mode, on the device."""
        put_weights(self._net, {name: tensor.to(self.device) for name, tensor in weights.items()})
        return self._net

    def val_scores(self, weights: State) -> tuple[float, float]:
        """Return the mean metric (higher is better) and the mean loss of weights on val."""
        outputs = self.val.outputs(self.net(weights))
        values = self.workload.metrics[self.metric](outputs, self.val.targets)
        return values.double().mean().item(), self.val.loss(outputs)

    @cached_property
    def unit(self) -> Unit:
        """The unit of the metric, by the values of all models on val."""
        targets = self.val.targets.cpu()
        values = {
            one.name: self.workload.metrics[self.metric](self.outputs(one, "val"), targets)
            .double()
            .numpy()
            for one in (self.base, *self.ingredients, *self.soups)
        }
        usual = [float(values[one.name].mean()) for one in self.ingredients]
        return unit_of_scores(
            self.metric, usual, is_fraction=all(are_fractions(v) for v in values.values())
        )

    @cached_property
    def _net(self) -> nn.Module:
        return empty_model(self.workload, self.device)


def mean_state(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the uniform average of states, by the rules of every soup."""
    from stockpot.merging.engine import merge_states
    from stockpot.merging.methods.linear import linear
    from stockpot.merging.recipe import Recipe

    return merge_states(list(states), Recipe.of(linear, (1.0,) * len(states)))
