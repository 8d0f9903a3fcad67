"""Who is judged: all models and the ensembles of the ingredients, with their outputs on any set."""

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
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.ranking import best, best_soup


@dataclass(frozen=True, slots=True)
class OnSet:
    """What the panel puts out on one set.

    Attributes:
        outputs: (N, ...) by model.
        targets: (N, ...).
    """

    outputs: Mapping[str, Tensor]
    targets: Tensor


class Panel:
    """All that is judged, by name: the models of a job, then ensembles of its ingredients."""

    def __init__(self, job: JudgingJob) -> None:
        """Look up who there is; nothing is read yet."""
        self._job = job
        self._workload = job.workload.build()
        self._ingredients = [model for model in job.models if model.kind == "ingredient"]
        self._members = [m for m in self._ingredients if m.name not in job.excluded]

    def on(self, set_name: str) -> OnSet:
        """Return what each puts out on a set, from kept predictions."""
        outputs, targets = self._single(set_name), self._targets(set_name)
        members = [outputs[member.name] for member in self._members]
        combined = {name: combine(members) for name, combine in self._ensembles.items()}
        return OnSet(outputs | combined, targets)

    @property
    def is_classification(self) -> bool:
        """Whether outputs are logits of classes."""
        return self._workload.task == "classification"

    @cached_property
    def best(self) -> str:
        """Name of the best ingredient on val."""
        return best(self._ingredients, self._val_metric).name

    @cached_property
    def best_soup(self) -> str | None:
        """Name of the best soup or tuned soup on val; None without soups."""
        soup = best_soup(self._job.models, self._val_metric)
        return None if soup is None else soup.name

    @cached_property
    def kinds(self) -> dict[str, str]:
        """What each is: base, ingredient, soup, tuned or ensemble."""
        return {name: identity["kind"] for name, identity in self.identities.items()}

    def named(self, *kinds: str) -> list[str]:
        """Name those of these kinds, in order."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    @cached_property
    def identities(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each, but for its metrics."""
        flops = count_flops(self._workload)
        single = {
            model.name: {
                "name": model.name,
                "kind": model.kind,
                "key": model.key,
                "digest": model.digest,
                "cost": _cost([model], flops),
            }
            for model in self._job.models
        }
        members = [model.digest for model in self._members]
        ensembles = {
            name: {
                "name": name,
                "kind": "ensemble",
                "key": content_key(ensemble=name, members=members, stack=self._job.stack),
                "digest": "",
                "cost": _cost(self._members, flops),
            }
            for name in self._ensembles
        }
        return single | ensembles

    @property
    def _val_metric(self) -> str:
        return f"val/{next(iter(self._workload.metrics))}"

    @cached_property
    def _ensembles(self) -> dict[str, Ensemble]:
        outputs = self._single("val")
        members = [outputs[member.name] for member in self._members]
        return fit_ensembles(self._workload.task, members, self._targets("val"), self._job.stack)

    def _single(self, set_name: str) -> dict[str, Tensor]:
        root, workload = self._job.root, self._job.workload
        return {m.name: load_outputs(root, workload, m.digest, set_name) for m in self._job.models}

    def _targets(self, set_name: str) -> Tensor:
        return load_targets(self._job.root, self._job.workload, set_name)


def _cost(models: Sequence[Model], flops: int) -> dict[str, int]:
    """Return what one prediction takes: models that are run, and operations of one example."""
    # A model may be asked several times, and its answers averaged.
    num_passes = sum(model.details.get("repeats", {"m": 1})["m"] for model in models)
    return {
        "num_models": num_passes,
        "num_params": sum(model.num_params for model in models),
        "bytes": sum(model.bytes for model in models),
        "flops": flops * num_passes,
    }
