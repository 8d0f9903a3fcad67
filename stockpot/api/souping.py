"""Soups of state dicts, chosen or tuned by any score function."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from stockpot.api.arguments import finite_number, list_of_models
from stockpot.errors import InputError
from stockpot.merging.stack import IngredientStack
from stockpot.merging.states import State
from stockpot.soups.selection.greedy import greedy_steps
from stockpot.soups.tuning.budget import Budget
from stockpot.soups.tuning.method_space import MethodSpace
from stockpot.soups.tuning.objectives import Scored, best_of
from stockpot.soups.tuning.study import StudyPlan, run_study

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Score: TypeAlias = Callable[[dict[str, Tensor]], float]


@dataclass(frozen=True)
class Soup:
    """A merged model and how it was made.

    Attributes:
        weights: the merged state dict.
        coefficients: one per model, in the order given; they sum to 1.
        score: of the merged weights, by the score function; None where nothing was scored.
        history: every candidate that was scored, in order: its coefficients and its score.
    """

    weights: dict[str, Tensor]
    coefficients: tuple[float, ...]
    score: float | None = None
    history: tuple[tuple[tuple[float, ...], float], ...] = ()


def uniform_soup(models: Sequence[State]) -> Soup:
    """Average models.

    Args:
        models: M state dicts with the same tensor names and shapes.

    Raises:
        InputError: there is no model, or they do not fit together.

    Example:
        >>> import torch, stockpot
        >>> models = [{"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}]
        >>> stockpot.uniform_soup(models).weights
        {'w': tensor([1.5000])}
    """
    models, stack = _listed(models)
    return Soup(stack.mean_of(range(len(models))), _shares(range(len(models)), len(models)))


def greedy_soup(models: Sequence[State], score: Score) -> Soup:
    """Average the models that raise a score, tried one by one from the best on.

    Args:
        models: M state dicts with the same tensor names and shapes.
        score: weights -> a number, higher is better; on validation data, never on the test set.

    Returns:
        The soup, whose score is never below that of the best single model.

    Raises:
        InputError: there is no model, they do not fit together, or a score is not finite.

    Source: Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, Recipe 1.

    Example:
        >>> import torch, stockpot
        >>> models = [{"w": torch.tensor([value])} for value in (0.0, 2.0, 9.0)]
        >>> soup = stockpot.greedy_soup(models, lambda weights: -abs(weights["w"].item() - 1.2))
        >>> soup.coefficients
        (0.5, 0.5, 0.0)
        >>> soup.weights
        {'w': tensor([1.])}
    """
    models, stack = _listed(models)
    history: list[tuple[tuple[float, ...], float]] = []

    def values(members: Sequence[int]) -> Tensor:
        found = finite_number("score", score(stack.mean_of(members)))
        history.append((_shares(members, len(models)), found))
        return torch.tensor([found], dtype=torch.float64)

    alone = [values([position]).item() for position in range(len(models))]
    order = sorted(range(len(models)), key=lambda position: -alone[position])
    steps = greedy_steps(order, values)
    members = [step.ingredient for step in steps if step.accepted]
    shares = _shares(members, len(models))
    return Soup(stack.mean_of(members), shares, steps[-1].best, tuple(history))


def tune(
    models: Sequence[State], score: Score, *, trials: int = 60, sampler: str = "tpe", seed: int = 0
) -> Soup:
    """Search the coefficients of a weighted average that raise a score, with Optuna.

    The uniform soup and each of the models alone are tried first.

    Args:
        models: M state dicts with the same tensor names and shapes.
        score: weights -> a number, higher is better; on validation data, never on the test set.
        trials: how many candidates, the first ones included.
        sampler: tpe, gp, cmaes, nsga2, nsga3, random or qmc.
        seed: of the sampler.

    Raises:
        InputError: there is no model, they do not fit together, a score is not finite, there is
            no trial, or the sampler is unknown.

    Example:
        >>> import torch, stockpot
        >>> models = [{"w": torch.tensor([value])} for value in (0.0, 1.0)]
        >>> soup = stockpot.tune(models, lambda weights: -abs(weights["w"].item() - 0.3), trials=30)
        >>> abs(soup.weights["w"].item() - 0.3) < 0.1
        True
    """
    if trials < 1:
        raise InputError(f"tune: trials must be at least 1, got {trials}")
    models, stack = _listed(models)
    space, every = MethodSpace.of("linear", None), range(len(models))

    def proposed(trial: BaseTrial) -> tuple[float, ...]:
        return space.ask(trial, "", len(models))[0]

    def scored(coefficients: tuple[float, ...]) -> Scored:
        return Scored((finite_number("score", score(stack.merge(coefficients))),))

    starts = {"uniform": space.start("", every, len(models))}
    starts |= {f"model {one}": space.start("", [one], len(models)) for one in every}
    with tempfile.TemporaryDirectory() as folder:
        plan = StudyPlan(
            name="tune",
            journal=Path(folder) / "study.log",
            directions=["maximize"],
            propose=proposed,
            evaluate=lambda candidates: map(scored, candidates),
            starts=starts,
            sampler=sampler,
            seed=seed,
        )
        found = run_study(plan, Budget(trials=trials))
    best, _ = best_of(found, ["val"], lambda trial: trial.scored)
    history = tuple((trial.candidate, trial.scored.values[0]) for trial in found)
    weights = stack.merge(best.candidate)
    return Soup(weights, best.candidate, best.scored.values[0], history)


def _listed(models: Sequence[State]) -> tuple[list[State], IngredientStack]:
    listed = list_of_models(models)
    if not all(isinstance(model, Mapping) for model in listed):
        raise InputError("models must be state dicts, got a path; `stockpot.merge` takes paths")
    # Copies: a score function may load weights into the net that a model is the state dict of.
    copies = [copy.deepcopy({n: t.detach() for n, t in model.items()}) for model in listed]
    return listed, IngredientStack(copies, "cpu")


def _shares(members: Sequence[int], count: int) -> tuple[float, ...]:
    return tuple(1 / len(members) if position in members else 0.0 for position in range(count))
