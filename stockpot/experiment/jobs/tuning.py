"""One tuned soup: its coefficients are searched on val, then the ingredients are merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import MergingJob
from stockpot.experiment.jobs.method_merges import MethodMerges
from stockpot.experiment.jobs.shared_scores import SharedScores, studies_address
from stockpot.scoring.key_parts import val_scores_key_parts
from stockpot.soups.preparation.options import method_modules
from stockpot.soups.preparation.registry import repair_modules
from stockpot.soups.selection.candidates import Blocks, Candidates
from stockpot.soups.tuning.merge import Merge
from stockpot.soups.tuning.registry import SEARCHES
from stockpot.soups.tuning.search import Found, Search, SearchContext
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.storage.store import Store

if TYPE_CHECKING:
    from stockpot.merging.masks import Masks
    from stockpot.merging.states import StateDict
    from stockpot.scoring.train_gradients import TrainHalves
    from stockpot.scoring.val_gradients import LabelledVal, UnlabelledVal
    from stockpot.soups.tuning.mixtures import Mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningJob(MergingJob):
    """One search for coefficients, as plain values that a worker process can be sent.

    Attributes:
        search: the search for coefficients, with its options.
    """

    kind: str = "tuned"
    search: Search

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
            **self.training_key_parts,
            base=self.base.digest,
            ingredients=[[model.digest, dict(model.scores)] for model in self.ingredients],
            scoring=val_scores_key_parts(self.workload),
            code=code_key(
                *tuning_modules(self.search),
                *repair_modules(self.ingredients),
                *self.workload.modules,
            ),
        )

    @property
    def is_trained(self) -> bool:
        """Whether the search trains the ingredients too."""
        return getattr(self.search, "trains", False)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe in the form of manifests."""
        return {"name": self.name, **self.search.recipe}

    @property
    def lock_key(self) -> str:
        """The study's key: no two jobs add trials to one study at the same time."""
        return self.study_key

    def work(self, device: str) -> Model:
        """Search coefficients on val, and merge with the best."""
        from stockpot.merging.registry import METHODS
        from stockpot.soups.tuning.mixtures import mean_shares, used_models

        context = _OnVal(self, device)
        found = self._found(context)
        if found.merge is not None:
            return self._save_merge(found, found.merge, context)
        uses_base = METHODS[found.method].needs_base
        is_pruned = any(not model.is_dense for model in self.ingredients)
        # Averages have the union of the masks by themselves; a base would fill it.
        masks: Masks | None = "union" if is_pruned and uses_base else None
        used = used_models(found.rows, len(self.ingredients), found.method)
        if found.weights is not None or masks:  # made by training all, or of the masks of all
            used = [*range(len(self.ingredients))]
        shares = mean_shares(found.rows, used)
        rows = {group: [row[position] for position in used] for group, row in found.rows.items()}
        if found.weights is None:
            merged = self._merge(replace(found, rows=rows), used, masks, uses_base=uses_base)
            merged = context.finished(merged, shares, uses_base)
        else:
            merged = {name: tensor.cpu() for name, tensor in found.weights.items()}
        models = [self.ingredients[position] for position in used]
        details = {
            "recipe": self._recipe_of(found),
            "coefficients": {
                self.ingredients[place].name: share for place, share in shares.items()
            },
            "inputs": {model.name: model.digest for model in models},
            "trials": found.trials,
            **({"masks": masks} if masks else {}),
            **context.repair_details(shares, uses_base),
            **found.details,
        }
        if found.per != "model":
            names = [model.name for model in models]
            table = {group: dict(zip(names, row, strict=True)) for group, row in rows.items()}
            details["layer_coefficients"] = table
        return Store(self.root).save("tuned", self.key, self.name, merged, details)

    def _recipe_of(self, found: Found) -> dict[str, Any]:
        """Return the recipe for the record, with the one method that was found."""
        tried = self.recipe["method"]
        several = {} if isinstance(tried, str) else {"methods": [*tried]}
        return {**self.recipe, **several, "method": found.method}

    def _save_merge(self, found: Found, merge: Merge, context: _OnVal) -> Model:
        """Merge all ingredients from their files, as a candidate was merged in memory."""
        names = [model.name for model in self.ingredients]
        uses_base = context.uses_base(merge)
        shares = dict(enumerate(merge.shares))
        weights = context.finished(context.merged_files(merge), shares, uses_base)
        details = {
            "recipe": self._recipe_of(found),
            "merge": merge.to_json(names) | context.needs_of(merge),
            "coefficients": dict(zip(names, merge.shares, strict=True)),
            "inputs": {model.name: model.digest for model in self.ingredients},
            "trials": found.trials,
            **context.masks_of(merge),
            **context.repair_details(shares, uses_base),
            **found.details,
        }
        return Store(self.root).save("tuned", self.key, self.name, weights, details)

    def _found(self, context: SearchContext) -> Found:
        """Run the search.

        Raises:
            InputError: it returns weights, but its class does not say that it trains.
        """
        found = self.search.find(context)
        if found.weights is not None and not self.is_trained:
            raise InputError(
                f"tune {self.name!r}: search {self.recipe['search']!r} must say `trains = True` in "
                "its class, since it returns weights, got a search that is said not to train"
            )
        return found

    def _merge(
        self, found: Found, used: Sequence[int], masks: Masks | None, *, uses_base: bool
    ) -> StateDict:
        """Merge the used ingredients from their files, by their coefficients."""
        from stockpot.merging.engine import merge_files
        from stockpot.soups.tuning.mixtures import recipes
        from stockpot.storage.checkpoints import verify

        paths = [verify(self.root, self.ingredients[position].checkpoint) for position in used]
        base = verify(self.root, self.base.checkpoint) if uses_base else None
        recipe_of = recipes(found.method, found.per, found.rows, found.options, masks)
        return merge_files(paths, recipe_of, base)

    def merged(self, model: Model) -> list[Model]:
        """Return the ingredients that have a coefficient."""
        return [each for each in self.ingredients if each.name in model.details["inputs"]]


def tuning_modules(search: Search) -> tuple[str, ...]:
    """Return the modules that make a soup by a search for coefficients."""
    recipe = search.recipe
    methods = [recipe["method"]] if isinstance(recipe["method"], str) else recipe["method"]
    of_methods = dict.fromkeys(module for each in methods for module in method_modules(each))
    sampler = str(recipe.get("sampler", ""))
    users = (sampler.partition(":")[0],) if ":" in sampler else ()
    return (__name__, SEARCHES.module_of(recipe["search"]), *of_methods, *users)


class _OnVal(MethodMerges):
    """The `SearchContext` of a job."""

    def __init__(self, job: TuningJob, device: str) -> None:
        super().__init__(job.root, job.workload, job.ingredients, device, job.base, job.seed)
        self._job = job
        self.name = job.name
        self.names = [model.name for model in job.ingredients]

    @property
    def scores(self) -> list[float]:
        """Val scores of the ingredients, by position."""
        return [model.scores[self._job.metric] for model in self.ingredients]

    @property
    def order(self) -> list[int]:
        """Positions of the ingredients, best val score first."""
        return rank(self.ingredients, self._job.metric)

    @property
    def candidates(self) -> Candidates:
        """The ingredients and the scores of their means."""

        def mean_of(members: Sequence[int], _equal: Sequence[float]) -> StateDict:
            return self.mean_of(members)

        def blocks(is_random: bool) -> Blocks:
            return self.blocks_of(mean_of, self.seed if is_random else None)

        return Candidates(
            self.order,
            self.scores,
            self.score_members,
            seed=self.seed,
            blocks=blocks if self.value_range else None,
            names=self.names,
        )

    @property
    def journal(self) -> Path:
        """The file of the study."""
        return self.root / ".stockpot" / "studies" / f"{self._job.study_key}.log"

    def score_merges(
        self, merges: Sequence[Merge], objectives: Sequence[str]
    ) -> Iterator[tuple[float, ...]]:
        """Score merges, each once on all machines that do this job with one STOCKPOT_STUDIES."""
        address = studies_address()
        if address is None:
            yield from super().score_merges(merges, objectives)
            return
        name = content_key(study=self._job.study_key, objectives=[*objectives])
        shared = SharedScores(address, f"{self.name} {name}", len(objectives))
        keys = [content_key(merge=asdict(merge)) for merge in merges]

        def evaluate(merge: Merge) -> tuple[float, ...]:
            return next(iter(super(_OnVal, self).score_merges([merge], objectives)))

        yield from shared.score(dict(zip(keys, merges, strict=True)), evaluate)

    def values(self, coefficients: Sequence[float], objectives: Sequence[str]) -> tuple[float, ...]:
        """Score a weighted average of the models, once per objective."""
        average = Merge("linear", tuple(coefficients))
        [values] = self.score_merges([average], objectives)
        return values

    def score_weights(self, weights: StateDict) -> float:
        """Score weights on val."""
        return self.scorer.val(weights)

    def mixture(
        self, per: str, *, is_from_base: bool = False, elected: Mapping[str, Any] | None = None
    ) -> Mixture:
        """Return the ingredients, on the device, as a function of coefficients.

        Weights that are 0 in a pruned ingredient stay 0 if the ingredient is trained.
        """
        from stockpot.merging.sparse_masks import nonzero_mask
        from stockpot.soups.tuning.mixtures import Mixture

        states = [self.moved(state) for state in self.states]
        masks = [
            None if model.is_dense else nonzero_mask(state)
            for model, state in zip(self.ingredients, states, strict=True)
        ]
        base = self.moved(self.load(self._job.base)) if is_from_base else None
        return Mixture(states, per, base, elected, self.finished, masks)

    def labelled(self, batch_size: int) -> LabelledVal:
        """Open val with its labels."""
        from stockpot.scoring.val_gradients import LabelledVal

        workload = self.workload.build()
        return LabelledVal(workload, self.device, batch_size=batch_size, seed=self.seed)

    def halves_of_train(self, batch_size: int) -> TrainHalves:
        """Open train with its labels."""
        from stockpot.scoring.train_gradients import TrainHalves

        workload = self.workload.build()
        return TrainHalves(workload, self.device, batch_size=batch_size, seed=self.seed)

    def unlabelled(self, batch_size: int) -> UnlabelledVal:
        """Open the inputs of val."""
        from stockpot.scoring.val_gradients import UnlabelledVal

        workload = self.workload.build()
        return UnlabelledVal(workload, self.device, batch_size=batch_size, seed=self.seed)
