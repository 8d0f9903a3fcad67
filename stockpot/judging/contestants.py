"""The contestants of an evaluation: all models, and the ensembles of the ingredients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from stockpot.judging.cost import count_flops
from stockpot.judging.ensembles import Ensemble, fit_ensembles
from stockpot.judging.job import JudgingJob
from stockpot.scoring.predictions import load_outputs, load_targets
from stockpot.storage.checkpoints import load_tensors, verify
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.ranking import best, best_soup


@dataclass(frozen=True, slots=True)
class OutputsOnSet:
    """The outputs of all contestants on one set.

    Attributes:
        outputs: (N, ...) by model.
        targets: (N, ...).
    """

    outputs: Mapping[str, Tensor]
    targets: Tensor


class Contestants:
    """Everything that is judged, by name: a job's models, then ensembles of its ingredients."""

    def __init__(self, job: JudgingJob) -> None:
        """Take the models of a job; no predictions are read yet."""
        self._job = job
        self._workload = job.workload.build()
        self._val_metric = f"val/{next(iter(self._workload.metrics))}"
        self._ingredients = [model for model in job.models if model.kind == "ingredient"]
        self._members = [m for m in self._ingredients if m.name not in job.excluded]

    def on(self, set_name: str) -> OutputsOnSet:
        """Return the outputs of all contestants on a set, from cached predictions."""
        outputs, targets = self._of_models(set_name), self._targets(set_name)
        members = [outputs[member.name] for member in self._members]
        combined = {name: combine(members) for name, combine in self._ensembles.items()}
        return OutputsOnSet(outputs | combined, targets)

    @property
    def are_classifiers(self) -> bool:
        """Whether outputs are logits of classes."""
        return self._workload.task == "classification"

    @cached_property
    def best(self) -> str:
        """The name of the best ingredient on val."""
        return best(self._ingredients, self._val_metric).name

    @cached_property
    def best_soup(self) -> str | None:
        """The name of the best soup or tuned soup on val; None without soups."""
        soup = best_soup(self._job.models, self._val_metric)
        return None if soup is None else soup.name

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Kind by name: base, ingredient, soup, tuned, repeats or ensemble."""
        return {name: identity["kind"] for name, identity in self.identities.items()}

    def named(self, *kinds: str) -> list[str]:
        """Return the names of the contestants of these kinds, in order."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    @cached_property
    def identities(self) -> dict[str, dict[str, Any]]:
        """Each contestant's entry in the manifest, without metrics, by name."""
        flops = count_flops(self._workload)
        judged = [(m.name, m.kind, m.key, m.digest, [m]) for m in self._job.models]
        members = [model.digest for model in self._members]
        for name in self._ensembles:
            key = content_key(ensemble=name, members=members, stack=self._job.stack)
            judged.append((name, "ensemble", key, "", self._members))
        return {
            name: {
                "name": name,
                "kind": kind,
                "key": key,
                "digest": digest,
                "cost": self._cost(models, flops),
            }
            for name, kind, key, digest, models in judged
        }

    @cached_property
    def _ensembles(self) -> dict[str, Ensemble]:
        outputs = self._of_models("val")
        members = [outputs[member.name] for member in self._members]
        return fit_ensembles(self._workload.task, members, self._targets("val"), self._job.stack)

    def _of_models(self, set_name: str) -> dict[str, Tensor]:
        root, workload = self._job.root, self._job.workload
        return {m.name: load_outputs(root, workload, m.digest, set_name) for m in self._job.models}

    def _targets(self, set_name: str) -> Tensor:
        return load_targets(self._job.root, self._job.workload, set_name)

    def _cost(self, models: Sequence[Model], flops: int) -> dict[str, int]:
        """Return what one prediction costs: nets that run, weights, and operations per example."""
        # A model with repeats makes several passes, whose outputs are averaged.
        num_passes = [model.details.get("repeats", {"m": 1})["m"] for model in models]
        each = [flops if model.num_nets == 1 else self._wide_flops(model) for model in models]
        nets = [model.num_nets * passes for model, passes in zip(models, num_passes, strict=True)]
        return {
            "num_models": sum(nets),
            "num_params": sum(model.num_params for model in models),
            "bytes": sum(model.bytes for model in models),
            "flops": sum(one * passes for one, passes in zip(each, num_passes, strict=True)),
        }

    def _wide_flops(self, model: Model) -> int:
        """Count the operations of nets side by side, zeros between them included."""
        weights = load_tensors(verify(self._job.root, model.checkpoint))
        return count_flops(self._workload, weights)
