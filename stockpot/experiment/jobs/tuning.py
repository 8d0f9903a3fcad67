"""One tuned soup: its coefficients are searched on val, then the ingredients are merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from stockpot.experiment.jobs.job import ModelJob
from stockpot.experiment.provenance import Provenance
from stockpot.scoring.key_parts import val_scores_key_parts
from stockpot.soups.preparation.options import method_modules
from stockpot.soups.tuning.registry import SEARCHES
from stockpot.soups.tuning.search import Found, Search
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.storage.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.stack import IngredientStack
    from stockpot.merging.states import StateDict
    from stockpot.scoring.val_gradients import LabelledVal, UnlabelledVal
    from stockpot.scoring.val_scores import ValScorer
    from stockpot.soups.preparation.recalibration import Recalibration
    from stockpot.soups.tuning.mixtures import Mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningJob(ModelJob):
    """One search for coefficients, as plain values that a worker process can be sent.

    Attributes:
        search: the search for coefficients, with its options.
        seed: seed of the search.
        base: the model that the ingredients were fine-tuned from.
        ingredients: the models to mix, with val scores.
        metric: name of the val score that orders the ingredients.
    """

    kind: str = "tuned"
    search: Search
    seed: int
    base: Model
    ingredients: tuple[Model, ...]
    metric: str

    @property
    def key(self) -> str:
        """The content key: equal jobs make equal soups."""
        names = [model.name for model in self.ingredients]  # the record refers to them by name
        return content_key(study=self.study_key, recipe=self.recipe, names=names)

    @property
    def study_key(self) -> str:
        """Key of the study; a longer search continues the study of a shorter one."""
        return content_key(
            study=self.search.study,
            seed=self.seed,
            base=self.base.digest,
            ingredients=[[model.digest, dict(model.scores)] for model in self.ingredients],
            scoring=val_scores_key_parts(self.workload),
            code=code_key(*self.modules),
        )

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that search coefficients and merge with them."""
        recipe = self.search.recipe
        search = SEARCHES.module_of(recipe["search"])
        return (__name__, search, *method_modules(recipe["method"]), *self.workload.modules)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe in the form of manifests."""
        return {"name": self.name, **self.search.recipe}

    @property
    def lock_key(self) -> str:
        """The study's key: no two jobs add trials to one study at the same time."""
        return self.study_key

    @property
    def parents(self) -> Mapping[str, str]:
        """Content keys of the ingredients, by name."""
        return {model.name: model.key for model in self.ingredients}

    def work(self, device: str) -> Model:
        """Search coefficients on val, and merge with the best."""
        return _tune(self, device)

    def provenance(self, model: Model) -> Provenance:
        """Return what is needed to merge the soup again, without searching again."""
        used = model.details["inputs"]
        merged = tuple((m.name, m.checkpoint) for m in self.ingredients if m.name in used)
        base = self.base.checkpoint
        return Provenance(model, self.workload, seed=self.seed, base=base, ingredients=merged)


def _tune(job: TuningJob, device: str) -> Model:
    from stockpot.merging.engine import merge_files
    from stockpot.merging.registry import METHODS
    from stockpot.soups.tuning.mixtures import recipes
    from stockpot.storage.checkpoints import verify

    context = _OnVal(job, device)
    paths = [verify(job.root, model.checkpoint) for model in job.ingredients]
    found = job.search.find(context)
    used = _used(found, len(paths))
    rows = {group: [row[position] for position in used] for group, row in found.rows.items()}
    base = verify(job.root, job.base.checkpoint) if METHODS[found.method].needs_base else None
    recipe_of = recipes(found.method, found.per, rows, found.options)
    merged = merge_files([paths[position] for position in used], recipe_of, base)
    merged = context.recalibrated(merged, len(used) + (base is not None))
    names = [job.ingredients[position].name for position in used]
    details = {
        "recipe": job.recipe,
        "coefficients": dict(zip(names, map(fmean, zip(*rows.values(), strict=True)), strict=True)),
        "inputs": {job.ingredients[p].name: job.ingredients[p].digest for p in used},
        "trials": found.trials,
        **found.details,
    }
    if found.per != "model":
        table = {group: dict(zip(names, row, strict=True)) for group, row in rows.items()}
        details["layer_coefficients"] = table
    return Store(job.root).save("tuned", job.key, job.name, merged, details)


def _used(found: Found, num_models: int) -> list[int]:
    """Return the positions of the models that any group uses; all if none does, or all vote."""
    every = range(num_models)
    if found.method == "elected_sum":
        return list(every)
    return [p for p in every if any(row[p] for row in found.rows.values())] or list(every)


class _OnVal:
    """The `SearchContext` of a job; weights and val are loaded when they are first needed."""

    def __init__(self, job: TuningJob, device: str) -> None:
        self._job = job
        self._device = device
        self.names = [model.name for model in job.ingredients]
        self.seed = job.seed

    @property
    def scores(self) -> list[float]:
        """Val scores of the ingredients, by position."""
        return [model.scores[self._job.metric] for model in self._job.ingredients]

    @property
    def order(self) -> list[int]:
        """Positions of the ingredients, best val score first."""
        return rank(self._job.ingredients, self._job.metric)

    @property
    def journal(self) -> Path:
        """The file of the study."""
        return self._job.root / ".stockpot" / "studies" / f"{self._job.study_key}.log"

    def values(self, coefficients: Sequence[float], objectives: Sequence[str]) -> tuple[float, ...]:
        """Score a weighted average of the models, once per objective."""
        scorers = {"val": self._scorer.val, "val_shift": self._scorer.val_shift}
        merged = self._stack.merge(coefficients)
        weights = self.recalibrated(merged, sum(value != 0 for value in coefficients))
        return tuple(scorers[name](weights) for name in objectives)

    def score_members(self, members: Sequence[int]) -> Tensor:
        """Return the val values (N,) of the mean of some models."""
        mean = self._stack.mean_of(members)
        return self._scorer.val_values(self.recalibrated(mean, len(members)))

    def score_weights(self, weights: StateDict) -> float:
        """Score weights on val."""
        return self._scorer.val(weights)

    def mixture(
        self, per: str, *, is_from_base: bool = False, elected: Mapping[str, Any] | None = None
    ) -> Mixture:
        """Return the ingredients, on the device, as a function of coefficients."""
        from stockpot.soups.tuning.mixtures import Mixture

        states = [self._moved(state) for state in self._states]
        base = self._moved(self._load(self._job.base)) if is_from_base else None
        return Mixture(states, per, base, elected)

    def labelled(self, batch_size: int) -> LabelledVal:
        """Open val with its labels."""
        from stockpot.scoring.val_gradients import LabelledVal

        workload = self._job.workload.build()
        return LabelledVal(workload, self._device, batch_size=batch_size, seed=self.seed)

    def unlabelled(self, batch_size: int) -> UnlabelledVal:
        """Open the inputs of val."""
        from stockpot.scoring.val_gradients import UnlabelledVal

        workload = self._job.workload.build()
        return UnlabelledVal(workload, self._device, batch_size=batch_size, seed=self.seed)

    @cached_property
    def recalibrated(self) -> Recalibration:
        """Recalibration of BatchNorm statistics of merged weights."""
        from stockpot.soups.preparation.recalibration import Recalibration

        return Recalibration(self._job.workload.build(), self._device)

    @cached_property
    def _scorer(self) -> ValScorer:
        from stockpot.scoring.val_scores import ValScorer

        return ValScorer(self._job.workload.build(), self._device)

    @cached_property
    def _stack(self) -> IngredientStack:
        from stockpot.merging.stack import IngredientStack

        return IngredientStack(self._states, self._device)

    @cached_property
    def _states(self) -> list[StateDict]:
        return [self._load(model) for model in self._job.ingredients]

    def _load(self, model: Model) -> StateDict:
        from stockpot.storage.checkpoints import load_tensors, verify

        return load_tensors(verify(self._job.root, model.checkpoint))

    def _moved(self, state: StateDict) -> StateDict:
        return {name: tensor.to(self._device) for name, tensor in state.items()}
