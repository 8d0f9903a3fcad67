"""Val scores, for selection and tuning; only `val` and the val shifts are opened."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from stockpot.errors import InputError
from stockpot.scoring.cached_passes import CachedPasses, Pass, run_pass
from stockpot.scoring.predictions import (
    load_losses,
    load_outputs,
    load_targets,
    open_val_set,
    predict,
    val_sets,
)
from stockpot.scoring.shared_passes import SharedSet
from stockpot.storage.density import density_of
from stockpot.storage.models import Model
from stockpot.workloads.metric_ranges import range_of
from stockpot.workloads.open_sets import open_examples
from stockpot.workloads.passes import Examples, empty_model, put_weights
from stockpot.workloads.protocol import Workload
from stockpot.workloads.samples import whole_and_size
from stockpot.workloads.spec import WorkloadSpec


class ValScorer:
    """Scores of candidates on val and its shifts, with the data on the device."""

    def __init__(self, workload: Workload, device: str, passes: CachedPasses | None = None) -> None:
        """Open val and the val shifts, and no other data of the workload.

        Args:
            workload: its first metric is used.
            device: where forward passes run.
            passes: those that were run before, and are not run again; None: all are run.
        """
        self._metrics = workload.metrics
        self._workload, self._device, self._passes = workload, device, passes
        self._metric = next(iter(workload.metrics.values()))
        self._model = empty_model(workload, device)
        self._val = open_examples(workload, "val", device)
        self._shifts = {
            f"val_shift/{name}": open_examples(workload, f"val_shift/{name}", device)
            for name, shift in workload.shifts().items()
            if shift.split == "val"
        }

    @property
    def num_examples(self) -> int:
        """The number of examples of val."""
        return len(self._val.targets)

    def val(self, weights: Mapping[str, Tensor]) -> float:
        """Return the mean metric on val, in float64; higher is better."""
        return self.val_values(weights).mean().item()

    def val_values(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the metric of each example of val, (N,), in float64; higher is better."""
        return self.values(weights, "val")

    def values(self, weights: Mapping[str, Tensor], set_name: str) -> Tensor:
        """Return the metric of each example of a set, (N,), float64, on the CPU."""
        if self._passes and self._passes.is_worthwhile(set_name):
            return self.run(weights, set_name).values
        examples = self._examples(set_name)
        put_weights(self._model, weights)
        return self._metric(examples.outputs(self._model), examples.targets).double().cpu()

    def run(
        self, weights: Mapping[str, Tensor], set_name: str, *, with_outputs: bool = False
    ) -> Pass:
        """Return values and losses on val or a shift, `val_shift/<name>`, or a sample of one."""

        def run(shared: SharedSet | None) -> Pass:
            put_weights(self._model, weights)
            return run_pass(self._workload, self._examples(set_name), self._model, shared)

        if self._passes is None:
            return run(None)
        shared = SharedSet(self._passes.workload, set_name, open_val_set)
        return self._passes.get_or_run(
            set_name, weights, partial(run, shared), with_outputs=with_outputs
        )

    def val_values_in(
        self, weights: Mapping[str, Tensor], blocks: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        """Yield the metric of the examples of one block of val after the other, on the CPU.

        A block is computed when it is read, with the weights of the last call; if all of val was
        evaluated before, none is.

        Args:
            weights: as of `val_values`.
            blocks: indices of examples, (n,), in ascending order.

        Yields:
            Values (n,), float64; higher is better.

        Raises:
            InputError: a value is outside the range that the metric declares.
        """
        if self._passes and self._passes.is_worthwhile("val"):
            known = self._passes.find("val", weights)
            if known is not None:
                values = self._in_range(known.values)
                return (values[indices] for indices in blocks)
        put_weights(self._model, weights)
        return (self._block_values(indices) for indices in blocks)

    def _block_values(self, indices: Tensor) -> Tensor:
        start = time.perf_counter()
        if self._passes:
            shared = SharedSet(self._passes.workload, "val", open_val_set)
            outputs = shared.outputs_of(self._val, self._model, indices)
        else:
            outputs = self._val.outputs_of(self._model, indices)
        targets = self._val.targets[indices.to(self._val.targets.device)]
        values = self._metric(outputs, targets).double().cpu()
        if self._passes:
            seconds = time.perf_counter() - start
            self._passes.took("val", seconds * self.num_examples / len(indices))
        return self._in_range(values)

    def _in_range(self, values: Tensor) -> Tensor:
        """Return values (n,); they must be in the range that the metric declares."""
        if declared := range_of(self._metric):
            outside = values[(values < declared[0]) | (values > declared[1])]
            if len(outside):
                raise InputError(
                    f"the workload's metric: declares values in {declared}, got "
                    f"{outside[0].item():g}; correct the range, or do not declare one"
                )
        return values

    def objectives(self, weights: Mapping[str, Tensor], names: Sequence[str]) -> tuple[float, ...]:
        """Return what a search compares candidates by; all but `loss` is better the higher.

        Args:
            weights: of a candidate.
            names: `val` and `val_shift`, means of the workload's first metric; `loss`, the mean on
                val; `sparsity`, the share of weights that are 0; or metrics of the workload, on
                val.
        """
        on_val = {*names} - {"val_shift", "sparsity"}
        if on_val <= {"val"}:  # values alone take less time
            return tuple(self._objective(name, weights) for name in names)
        done = self.run(weights, "val", with_outputs=bool(on_val - {"val", "loss"}))
        return tuple(self._objective(name, weights, done) for name in names)

    def _objective(
        self, name: str, weights: Mapping[str, Tensor], done: Pass | None = None
    ) -> float:
        if name == "sparsity":
            return 1 - density_of(weights)
        if name == "val_shift":
            return self.val_shift(weights)
        if done is None:
            return self.val(weights)
        if name == "loss":
            return done.losses.double().mean().item()
        if name == "val":
            return done.values.mean().item()
        assert done.outputs is not None
        return self._metrics[name](done.outputs, self._val.targets.cpu()).double().mean().item()

    def val_shift(self, weights: Mapping[str, Tensor]) -> float:
        """Return the mean over the val shifts of the mean metric; higher is better."""
        scores = [self.values(weights, name).mean().item() for name in self._shifts]
        return sum(scores) / len(scores)

    def _examples(self, set_name: str) -> Examples:
        whole, size = whole_and_size(set_name)
        examples = self._val if whole == "val" else self._shifts[whole]
        if size is None:
            return examples
        return open_examples(self._workload, set_name, self._device)


def val_score(workload: Workload, weights: Mapping[str, Tensor], device: str) -> float:
    """Return the mean of the workload's first metric on val."""
    return ValScorer(workload, device).val(weights)


def score_on_val(root: Path, workload: WorkloadSpec, model: Model, device: str) -> Model:
    """Return `model` with its val scores, computed from its cached predictions.

    The scores are the mean of the first metric on val, on each val shift and over these, and the
    mean loss on val.
    """
    sets = val_sets(workload)
    predict(root, workload, model.checkpoint, device, sets)
    metric, compute = next(iter(workload.build().metrics.items()))
    scores = {}
    for name in sets:
        outputs = load_outputs(root, workload, model.digest, name)
        values = compute(outputs, load_targets(root, workload, name))  # (N,)
        scores[f"{name}/{metric}"] = values.double().mean().item()
    _, *shifts = scores.values()
    if shifts:
        scores[f"val_shift/mean/{metric}"] = sum(shifts) / len(shifts)
    losses = load_losses(root, workload, model.digest, "val")
    return model.scored(scores | {"val/loss": round(losses.mean().item(), 6)})
