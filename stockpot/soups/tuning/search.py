"""Searches for merge coefficients: what they get, and what they return.

A search sees scores and losses, never data: on val, and on train only if it trains the ingredients
too. Its module needs no torch when it is imported, so that reading params.yaml stays fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from stockpot.merging.states import StateDict
    from stockpot.soups.selection.candidates import Candidates
    from stockpot.soups.tuning.merge import Merge
    from stockpot.soups.tuning.mixtures import Mixture, Rows

    Objective = Callable[[StateDict, float], tuple[float, StateDict, float]]
    """Weights, and a factor on the outputs -> what is minimized, and both gradients."""


class Objectives(Protocol):
    """The objective of a search by gradient on val."""

    def batches(self, number: int) -> Iterable[Objective]:
        """Yield the objective on each batch of a pass; passes count from 1."""
        ...


class LabelledLosses(Objectives, Protocol):
    """Losses on one half of val, to fit coefficients on; the other is to choose between fits."""

    def judge(self, weights: StateDict, beta: float) -> tuple[float, float, float]:
        """Return score and loss on the half to choose on, and the loss on the other half."""
        ...


class TrainHalves(Protocol):
    """Losses on two halves of train: one for weights, one for coefficients."""

    def pairs(self, number: int) -> Iterable[tuple[Objective, Objective]]:
        """Yield the objectives on a batch of each half; passes count from 1."""
        ...


class UnlabelledEntropies(Objectives, Protocol):
    """The entropy of predictions on val, without labels."""

    def class_entropy(self, weights: StateDict) -> float:
        """Return the entropy, in nats, of the distribution of predicted classes."""
        ...


class SearchContext(Protocol):
    """The ingredients of a search, and scores of their mixtures on val; higher is better."""

    @property
    def name(self) -> str:
        """The name of the soup that is searched for."""
        ...

    @property
    def tensor_names(self) -> Sequence[str]:
        """Names of the tensors of the ingredients."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Names of the M ingredients, by position."""
        ...

    @property
    def scores(self) -> Sequence[float]:
        """Val scores of the ingredients, by position."""
        ...

    @property
    def order(self) -> Sequence[int]:
        """Positions of the ingredients, best val score first."""
        ...

    @property
    def seed(self) -> int:
        """The seed of the search."""
        ...

    @property
    def journal(self) -> Path:
        """A file for the state of the search, so that an interrupted one continues."""
        ...

    def values(self, coefficients: Sequence[float], objectives: Sequence[str]) -> tuple[float, ...]:
        """Score the average of the models weighted by coefficients (M,), once per objective.

        Args:
            coefficients: weights of the models; their sum is not 0.
            objectives: `val`, `val_shift` or both.
        """
        ...

    def score_merges(
        self, merges: Sequence[Merge], objectives: Sequence[str]
    ) -> Iterable[tuple[float, ...]]:
        """Score merges of all ingredients, lazily and in order, once per objective.

        Args:
            merges: the candidates.
            objectives: `val`, `val_shift`, `loss`, `sparsity`, or metrics of the workload.
        """
        ...

    @property
    def candidates(self) -> Candidates:
        """The ingredients and the scores of their means, for a selection."""
        ...

    def score_weights(self, weights: StateDict) -> float:
        """Score weights."""
        ...

    def mixture(
        self, per: str, *, is_from_base: bool = False, elected: Mapping[str, Any] | None = None
    ) -> Mixture:
        """Return the ingredients as a function of coefficients; see `Mixture`."""
        ...

    def labelled(self, batch_size: int) -> LabelledLosses:
        """Open val with its labels."""
        ...

    def halves_of_train(self, batch_size: int) -> TrainHalves:
        """Open train with its labels, for a search that also trains the ingredients."""
        ...

    def unlabelled(self, batch_size: int) -> UnlabelledEntropies:
        """Open the inputs of val."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search.

    Attributes:
        method: the merge method that the coefficients are for.
        per: what has its own coefficients: model, layer or tensor.
        rows: the coefficients (M,) of each group of tensors, by the group's name.
        trials: all candidates, in order, for the manifest.
        details: further results of this kind of search, for the manifest.
        options: options of the merge method.
        merge: the merge itself, where it is not by rows: of any method, with rules.
        weights: of the soup, if the search has changed the ingredients, so that no merge gives
            them; None for a merge.
    """

    method: str
    per: str
    rows: Mapping[str, Sequence[float]]
    trials: list[dict[str, Any]]
    details: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: StateDict | None = None
    merge: Merge | None = None


class Search(Protocol):
    """A search with its options: a frozen dataclass, whose fields are fields of params.yaml.

    If it is for some tasks only, its class says so by an attribute `tasks`; if it trains the
    ingredients too, by `trains = True`: it alone may return weights, and its recipe has all its
    options by name, since `stockpot reproduce` has to run it again.
    """

    @property
    def study(self) -> dict[str, Any]:
        """The settings that identify a study; searches with equal ones continue each other."""
        ...

    @property
    def recipe(self) -> dict[str, Any]:
        """The search in the form of manifests, with `search` (its name) and `method`."""
        ...

    def find(self, context: SearchContext) -> Found:
        """Search coefficients."""
        ...


def problem_of(coefficients: Sequence[float], count: int) -> str | None:
    """Return what makes the coefficients of `count` models invalid; None if they are valid."""
    total = sum(coefficients)
    if len(coefficients) == count and math.isfinite(total) and total != 0:
        return None
    return f"coefficients must be {count} finite numbers whose sum is not 0, got {[*coefficients]}"


def trial_json(number: int, values: Sequence[float], source: str) -> dict[str, Any]:
    """Return a trial in the form of manifests.

    Args:
        number: of the trial, from 0.
        values: one score per objective.
        source: the name of a start, `epoch` for a step of a fit, or `sampler`.
    """
    return {"number": number, "values": values, "source": source}


def trials_of(
    context: SearchContext, mixture: Mixture, states: Iterable[Rows], start: str
) -> list[dict[str, Any]]:
    """Score the states of a search by gradient as trials; the first one is called `start`."""
    return [
        trial_json(
            number, (context.score_weights(mixture.weights(rows)),), "epoch" if number else start
        )
        for number, rows in enumerate(states)
    ]
