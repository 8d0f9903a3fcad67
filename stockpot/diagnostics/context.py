"""The input of diagnostics: models with their weights, train and val. Test stays closed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stockpot.diagnostics.states import finished_mean
from stockpot.merging.states import State
from stockpot.metric_units import Unit, unit_of_scores
from stockpot.scoring.cached_passes import CachedPasses
from stockpot.scoring.predictions import load_outputs, predict
from stockpot.scoring.val_scores import ValScorer
from stockpot.seeding import seeded_generator
from stockpot.soups.preparation.finishing import Finishing
from stockpot.statistics.values import are_fractions
from stockpot.storage.checkpoints import load_tensors, verify
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.workloads.batches import num_examples, take, to_device
from stockpot.workloads.open_sets import open_examples
from stockpot.workloads.passes import Examples, empty_model, put_weights
from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.samples import sample_of, whole_and_size
from stockpot.workloads.spec import WorkloadSpec

_WORST = 1e6  # nats
MOST_WORK = 4e11  # passes x examples x weights, two minutes on one core; beyond, sets are sampled
_LEAST_SAMPLE = 128  # examples


@dataclass(frozen=True)
class LoadedModel:
    """One model, whose weights are loaded when they are first needed.

    Attributes:
        root: the project root.
        model: its manifest entry, with val scores.
    """

    root: Path
    model: Model

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.model.name

    @cached_property
    def weights(self) -> State:
        """The tensors, loaded once and verified by digest."""
        return load_tensors(verify(self.root, self.model.checkpoint))


@dataclass(frozen=True)
class DiagnosticContext:
    """The input of a diagnostic.

    Attributes:
        workload: its train and val may be opened.
        device: where forward passes run.
        seed: the experiment's; random choices derive their seeds from it.
        metric: the workload's first metric, e.g. `accuracy`.
        base: the model that the ingredients were fine-tuned from.
        ingredients: in the order of the sweep.
        soups: soups and tuned soups, in the order of the table.
        shared: cache folder that diagnostics of the same ingredients share; None for no cache.
        spec: describes the workload; None if predictions are not cached.
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
        return open_examples(self.workload, "val", self.device)

    @cached_property
    def val_shifts(self) -> Mapping[str, Examples]:
        """The shifts of val by name, on the device."""
        return {
            name: open_examples(self.workload, f"val_shift/{name}", self.device)
            for name, shift in self.workload.shifts().items()
            if shift.split == "val"
        }

    def probe(self, split: str, size: int) -> Batch:
        """Return at most `size` examples of train or val, the same ones every time.

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

    def outputs(self, model: LoadedModel, set_name: str) -> Tensor:
        """Return a model's outputs on `val` or `val_shift/<name>`, from the cache; (N, C).

        Raises:
            ValueError: the set is neither val nor one of its shifts.
        """
        split, _, shift = set_name.partition("_shift/")
        if split != "val" or (shift and shift not in self.val_shifts):
            raise ValueError(f"outputs are on val and its shifts, got {set_name!r}")
        if self.spec is None:
            examples = self.val_shifts[shift] if shift else self.val
            return examples.outputs(self.net(model.weights)).cpu()
        predict(model.root, self.spec, model.model.checkpoint, self.device, [set_name])
        return load_outputs(model.root, self.spec, model.model.digest, set_name)

    def net(self, weights: State) -> nn.Module:
        """Return the workload's model with these weights, in eval mode, on the device."""
        put_weights(self._net, self.on_device(weights))
        return self._net

    def on_device(self, weights: State) -> State:
        """Return weights on the device."""
        return {name: tensor.to(self.device) for name, tensor in weights.items()}

    @cached_property
    def scorer(self) -> ValScorer:
        """Scores of weights on val and its shifts; no pass that a project has run is repeated."""
        if self.spec is None:
            return ValScorer(self.workload, self.device)
        passes = CachedPasses(self.base.root, self.spec, self.device)
        return ValScorer(self.workload, self.device, passes)

    def val_sets_for(self, num_passes: int) -> list[str]:
        """Return the names of val and its shifts as they are evaluated in so many passes.

        With large models these are random samples, so that all passes take a few minutes. A
        finding that uses them states its errors, and decides nothing.

        Args:
            num_passes: over each of the sets.
        """
        names = ("val", *(f"val_shift/{name}" for name in self.val_shifts))
        sizes = {name: self.num_examples(name) for name in names}
        examples = MOST_WORK / max(num_passes * self.num_weights, 1)
        if examples >= sum(sizes.values()):
            return [*sizes]
        most = max(_LEAST_SAMPLE, int(examples / len(sizes)))
        return [name if size <= most else sample_of(name, most) for name, size in sizes.items()]

    def num_examples(self, set_name: str) -> int:
        """Return the number of examples of val, one of its shifts, or a sample of one."""
        whole, size = whole_and_size(set_name)
        if size is not None:
            return size
        _, _, shift = whole.partition("_shift/")
        return len((self.val_shifts[shift] if shift else self.val).targets)

    @cached_property
    def num_weights(self) -> int:
        """The number of weights of a model."""
        return sum(tensor.numel() for tensor in self.base.weights.values())

    def val_scores(self, weights: State, set_name: str = "val") -> tuple[float, float]:
        """Return the mean metric (higher is better) and the mean loss of weights on val, finite."""
        done = self.scorer.run(self.on_device(weights), set_name)
        return done.values.mean().item(), finite_loss(done.losses.mean().item())

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the metric of each example (N,) by outputs (N, ...) and targets, in float64."""
        return self.workload.metrics[self.metric](outputs, targets).double()

    @cached_property
    def unit(self) -> Unit:
        """The unit of the metric, inferred from the values of all models on val."""
        targets = self.val.targets.cpu()
        values = {
            one.name: self.values(self.outputs(one, "val"), targets).numpy()
            for one in (self.base, *self.ingredients, *self.soups)
        }
        usual = [float(values[one.name].mean()) for one in self.ingredients]
        return unit_of_scores(
            self.metric, usual, is_fraction=all(are_fractions(v) for v in values.values())
        )

    @property
    def described(self) -> dict[str, Any]:
        """The metric and its unit, in the form of the data of findings."""
        return {"metric": self.metric, "unit": self.unit.to_json()}

    @cached_property
    def finished(self) -> Finishing:
        """The function from merged weights to those that a soup is saved with."""
        are_aligned = any(one.model.is_aligned for one in self.ingredients)
        aligned = [one.weights for one in self.ingredients] if are_aligned else ()
        return Finishing(self.workload, self.device, aligned)

    def mean_of(self, states: Sequence[State]) -> State:
        """Return the uniform average of weights, as a uniform soup of them is saved."""
        return finished_mean(self.finished)(states)

    @cached_property
    def _net(self) -> nn.Module:
        return empty_model(self.workload, self.device)


def finite_loss(loss: float) -> float:
    """Return a loss, at most a million nats, also for NaN: JSON has neither inf nor nan."""
    return _WORST if math.isnan(loss) else min(loss, _WORST)
