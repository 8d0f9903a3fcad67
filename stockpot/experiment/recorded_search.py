"""The search of a recorded tuned soup: its coefficients are known, unless weights were trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from stockpot.errors import InputError
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.soups.tuning.merge import Merge
from stockpot.soups.tuning.registry import SEARCHES
from stockpot.soups.tuning.search import Found, Search, SearchContext
from stockpot.storage.models import Model


def trains(recipe: dict[str, Any]) -> bool:
    """Whether the search of a recorded recipe trains the ingredients too."""
    return bool(getattr(SEARCHES[recipe["search"]].build, "trains", False))


def search_of(recorded: Model) -> Search:
    """Return a search that finds what was recorded; one that trains has to run again.

    Raises:
        InputError: the record lacks an option of a search that has to run again.
    """
    recipe = recorded.details["recipe"]
    if not trains(recipe):
        return _RecordedSearch(recorded)
    kind = SEARCHES[recipe["search"]]
    if missing := sorted(kind.options.keys() - recipe.keys()):
        raise InputError(
            f"{recorded.name}: cannot be rebuilt: search {recipe['search']!r} trains, so it has to "
            f"run again, but its recipe lacks the options {missing}; a search that trains must "
            "return all its options in `recipe`"
        )
    return kind.build(**{name: recipe[name] for name in kind.options})


def with_scores(job: TuningJob, device: str) -> TuningJob:
    """Return a job whose ingredients have val scores, which a search that runs again may use."""
    from stockpot.scoring.val_scores import score_on_val

    scored = (score_on_val(job.root, job.workload, model, device) for model in job.ingredients)
    metric = f"val/{next(iter(job.workload.build().metrics))}"
    return replace(job, ingredients=tuple(scored), metric=metric)


@dataclass(frozen=True, slots=True)
class _RecordedSearch:
    """The search of a tuned soup, which finds the coefficients that were recorded."""

    model: Model

    @property
    def recipe(self) -> dict[str, Any]:
        recipe: dict[str, Any] = self.model.details["recipe"]
        return recipe

    study = recipe

    def find(self, context: SearchContext) -> Found:
        details, recipe = self.model.details, self.recipe
        if recorded := details.get("merge"):
            merge = Merge.from_json(recorded)
            return Found(merge.method, "model", {}, [], {}, merge.options, merge=merge)
        named = details.get("layer_coefficients", {"model": details["coefficients"]})
        rows = {group: [row[name] for name in context.names] for group, row in named.items()}
        per, options = recipe.get("per", "model"), recipe.get("options", {})
        return Found(recipe["method"], per, rows, trials=[], options=options)
