"""Making one tuned soup: found in the store, or its coefficients searched on val and merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stockpot.experiment.jobs.job import ModelJob
from stockpot.experiment.jobs.searches import Found, Search
from stockpot.experiment.provenance import Provenance
from stockpot.scoring.key_parts import val_scores_key_parts
from stockpot.soups.preparation.options import method_modules
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningJob(ModelJob):
    """One search for coefficients, as plain values that a worker process can be sent.

    Attributes:
        search: how coefficients are found.
        seed: of the search.
        base: what the ingredients were fine-tuned from.
        ingredients: what is mixed, with val scores.
        metric: the val score that orders the ingredients, by its name in the scores.
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
        names = [model.name for model in self.ingredients]  # its record tells of them by name
        return content_key(study=self.study_key, recipe=self.recipe, names=names)

    @property
    def study_key(self) -> str:
        """Names the study, which jobs of several keys may share."""
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
        method = self.search.recipe["method"]
        return (__name__, *method_modules(method), *self.workload.modules)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe, as it stands in manifests."""
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
    from stockpot.soups.preparation.recalibration import Recalibration
    from stockpot.soups.tuning.mixtures import recipes
    from stockpot.storage.checkpoints import load_tensors, verify

    paths = [verify(job.root, model.checkpoint) for model in job.ingredients]
    found = job.search.find(job, [load_tensors(path) for path in paths], device)
    used = _used(found, len(paths))
    rows = {group: [row[position] for position in used] for group, row in found.rows.items()}
    base = verify(job.root, job.base.checkpoint) if METHODS[found.method].needs_base else None
    recipe_of = recipes(found.method, found.per, rows, found.options)
    merged = merge_files([paths[position] for position in used], recipe_of, base)
    merged = Recalibration(job.workload.build(), device)(merged, len(used) + (base is not None))
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
