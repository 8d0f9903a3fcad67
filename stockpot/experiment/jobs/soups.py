"""One soup: its ingredients are chosen by val scores, then merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.experiment.jobs.candidate_soups import (
    BY_CORRUPTION,
    CORES,
    GROWTH,
    OWN_TRAINING,
    CandidateSoups,
)
from stockpot.experiment.jobs.method_job import MethodJob
from stockpot.experiment.jobs.selection_steps import tested_steps
from stockpot.merging.signature_layers import SIGNATURES
from stockpot.scoring.group_scores import group_scores
from stockpot.scoring.key_parts import val_scores_key_parts
from stockpot.soups.concat.options import CONCAT, is_trained
from stockpot.soups.preparation.options import method_modules
from stockpot.soups.preparation.registry import repair_modules
from stockpot.soups.selection.candidates import (
    Candidates,
    Paths,
    PathSelection,
    Selection,
    WeightedCandidates,
)
from stockpot.soups.selection.registry import SELECTIONS
from stockpot.soups.weighting import check_coefficients, takes_coefficients
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.name_rules import NameRule
    from stockpot.statistics.values import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class SoupJob(MethodJob):
    """One soup, as plain values that a worker process can be sent.

    Attributes:
        select: name of the selection; None: the ingredients are chosen, and all are merged.
        select_options: options of the selection, by name.
        coefficients: of the ingredients, if they are chosen; equal ones by default.
    """

    kind: str = "soup"
    select: str | None
    select_options: Mapping[str, Any] = field(default_factory=dict)
    coefficients: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """The content key: equal jobs make equal soups."""
        return content_key(
            recipe=self.recipe,
            base=self.base.digest,
            seed=self.seed,
            **self.training_key_parts,
            **self._trainings,
            # Names too: the record of a soup refers to its ingredients by name.
            ingredients=[[m.name, m.digest, dict(m.scores)] for m in self.ingredients],
            scoring=val_scores_key_parts(self.workload),
            code=code_key(
                *soup_modules(self.select, self.method, self.rules, core_space=self.core_space),
                *repair_modules(self.ingredients),
                *self.workload.modules,
            ),
        )

    @property
    def is_trained(self) -> bool:
        """Whether nets side by side are trained."""
        return self.method == CONCAT and is_trained(self.options)

    @property
    def _trainings(self) -> dict[str, Any]:
        """The training of the ingredients, if the selection or the merge depends on it."""
        if self.method == SIGNATURES:
            return {"corruptions": [self.corruption_of(model) for model in self.ingredients]}
        along_run = merges_along_run(self.method)
        if not _may_group(self.select) and not along_run:
            return {}
        epochs = {"epochs": [m.details.get("epoch") for m in self.ingredients]} if along_run else {}
        return epochs | {"trainings": [m.details.get("hyperparameters") for m in self.ingredients]}

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe in the form of manifests."""
        recipe: dict[str, Any] = {"name": self.name, "select": self.select, "method": self.method}
        recipe |= {"options": dict(self.options)} if self.options else {}
        recipe |= {"rules": [rule.to_json() for rule in self.rules]} if self.rules else {}
        recipe |= {"masks": self.masks} if self.masks else {}
        recipe |= {"core_space": True} if self.core_space else {}
        return recipe | dict(self.select_options)

    def work(self, device: str) -> Model:
        """Choose ingredients by their val scores, and merge them."""
        soups = CandidateSoups(self, device)
        if self.select is None:
            every = range(len(self.ingredients))
            return _save(self, soups, Selection(every, coefficients=self.coefficients))

        def similarities() -> Floats:
            found: Floats = OWN_TRAINING["gradients"](self, soups)
            return found

        blocks = partial(soups.blocks, in_order=self._in_order_of_merge)
        measures = {
            "similarities": similarities,
            "inner_products": soups.inner_products,
            "group_scores": partial(group_scores, self.root, self.workload, self.ingredients),
            "score_weighted": soups.score if takes_coefficients(self.method) else None,
            "blocks": blocks if soups.value_range else None,
        }
        chosen = self._choose(soups.score, soups.score_on_path, measures)
        if isinstance(chosen, PathSelection):
            return _save_point(self, device, chosen)
        return _save(self, soups, chosen)

    def merged(self, model: Model) -> list[Model]:
        """Return the ingredients of the soup in the order of the merge."""
        details = model.details
        accepted = [step["ingredient"] for step in details["steps"] if step["accepted"]]
        names = details.get("members") or accepted
        if len(details["inputs"]) == 1:
            names = list(details["inputs"])
        if not names:  # no soup was scored: the selection can run again at no cost
            chosen = self._choose(_no_scores, _no_scores)
            assert isinstance(chosen, Selection)
            return [self.ingredients[member] for member in chosen.members]
        by_name = {each.name: each for each in self.ingredients}
        return [by_name[name] for name in names]

    def _choose(
        self,
        score: Callable[[Sequence[int]], Tensor],
        score_on_path: Callable[[int, float], float],
        measures: Mapping[str, Any] = MappingProxyType({}),
    ) -> Selection | PathSelection:
        """Run the selection.

        Raises:
            InputError: a custom selection returns something other than ingredients.
        """
        assert self.select is not None, "there is nothing to choose"
        rule = SELECTIONS[self.select]
        order = rank(self.ingredients, self.metric)
        scores = [model.scores[self.metric] for model in self.ingredients]
        if rule.is_on_path:
            chosen = rule.choose(Paths(order, scores, score_on_path), **self.select_options)
        else:
            in_order = self._in_order_of_merge
            names = [model.name for model in self.ingredients]
            kind: Callable[..., Candidates] = Candidates
            if rule.is_weighted:
                check_coefficients(self.select, self.method)
                kind = WeightedCandidates
            candidates = kind(
                order, scores, lambda m: score(in_order(m)), seed=self.seed, names=names, **measures
            )
            chosen = rule.choose(candidates, **self.select_options)
        if not isinstance(chosen, PathSelection if rule.is_on_path else Selection):
            expected = "PathSelection" if rule.is_on_path else "Selection"
            raise InputError(f"selection {self.select!r}: must return a {expected}, got {chosen!r}")
        members = chosen.members if isinstance(chosen, Selection) else [chosen.best.ingredient]
        if not members or not {*members} <= {*order} or len({*members}) < len(members):
            raise InputError(
                f"selection {self.select!r}: must choose at least one position below {len(order)}, "
                f"and each only once, got {[*members]}"
            )
        if isinstance(chosen, PathSelection):
            return chosen
        selection: Selection = chosen
        if selection.coefficients:
            self._check_coefficients(selection)
            return selection
        return replace(selection, members=self._in_order_of_merge(selection.members))

    def _check_coefficients(self, chosen: Selection) -> None:
        """Check that a selection's coefficients are those of its members, and are used.

        Raises:
            InputError: they are not.
        """
        if len(chosen.coefficients) != len(chosen.members):
            raise InputError(
                f"selection {self.select!r}: must return a coefficient per member, got "
                f"{len(chosen.coefficients)} for {len(chosen.members)} members"
            )
        if len({*chosen.coefficients}) > 1:  # equal ones are those of a method without any
            check_coefficients(str(self.select), self.method)

    def _in_order_of_merge(self, members: Sequence[int]) -> Sequence[int]:
        """Return the positions of ingredients in the order in which the method merges them."""
        if not merges_along_run(self.method):
            return members
        from stockpot.soups.run_order import in_run_order

        place_of = {self.ingredients[member].name: member for member in members}
        models = [self.ingredients[member] for member in members]
        return [place_of[model.name] for model in in_run_order(self.method, models)]


def soup_modules(
    select: str | None,
    method: str,
    rules: Sequence[NameRule] = (),
    *,
    core_space: bool = False,
) -> tuple[str, ...]:
    """Return the modules that make a soup by a selection, a merge method and rules."""
    selection = () if select is None else (SELECTIONS.module_of(select),)
    others = {module for rule in rules if rule.method for module in method_modules(rule.method)}
    others |= {BY_CORRUPTION.module_of("merge")} if method == SIGNATURES else set()
    others |= {CORES.module_of("merge")} if core_space else set()
    others |= {GROWTH.module_of("train")} if method == CONCAT else set()
    others |= {OWN_TRAINING.module_of("gradients")} if _may_group(select) else set()
    others |= {"stockpot.soups.run_order"} if merges_along_run(method) else set()
    return (__name__, *selection, *method_modules(method), *sorted(others))


def merges_along_run(method: str) -> bool:
    """Whether a method merges checkpoints of one run, in its order."""
    if method in ("linear", CONCAT):  # looking up the others imports torch, which takes a second
        return False
    from stockpot.merging.registry import METHODS

    return METHODS[method].run_coefficients is not None


def _may_group(select: str | None) -> bool:
    """Whether a selection may compare gradients of training, as custom ones may."""
    return select is not None and (select == "gradient_group" or ":" in select)


def _no_scores(*_what: Any) -> Any:
    raise AssertionError("this selection needs no scores of soups")


def _save(job: SoupJob, soups: CandidateSoups, selection: Selection) -> Model:
    """Merge the chosen ingredients and save the soup."""
    names = [model.name for model in job.ingredients]
    members = list(selection.members)
    details: dict[str, Any] = {"steps": tested_steps(selection.steps, names, job.seed)}
    if selection.groups:
        details["groups"] = [
            {"ingredients": [names[member] for member in group.members], "score": group.score}
            for group in selection.groups
        ]
    accepted = [step.ingredient for step in selection.steps if step.accepted]
    is_custom = ":" in (job.select or "")  # it may choose others when it runs again
    if (soups.has_scored or is_custom) and accepted != members:
        details["members"] = [names[member] for member in members]
    if selection.experts:
        details["experts"] = {group: names[one] for group, one in selection.experts.items()}
    if selection.coefficients:
        details["weighted"] = True
    return soups.save(job.key, members, selection.coefficients or 1 / len(members), details)


def _save_point(job: SoupJob, device: str, selection: PathSelection) -> Model:
    """Merge the base and an ingredient to a point on the path between them, and save the soup."""
    best, points = selection.best, selection.points or [selection.best]
    paths = {
        model.name: {f"{p.alpha:g}": p.score for p in points if p.ingredient == number}
        for number, model in enumerate(job.ingredients)
    }
    soups = CandidateSoups(replace(job, options={"alpha": best.alpha}), device)
    return soups.save(job.key, [best.ingredient], best.alpha, {"steps": [], "paths": paths})
