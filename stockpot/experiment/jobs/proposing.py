"""A sweep that searches for ingredients that improve the soup.

The first ingredients are those of a Sobol sequence. Then, in rounds, the value of each ingredient
is the gain on val of the greedy soup of all ingredients from it, and a tree-structured Parzen
estimator proposes hyperparameters for high values. A good model that is similar to those in the
soup has a low value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockpot.distributions.values import Constant, Distribution, Integer, LogUniform, Uniform
from stockpot.experiment.jobs.job import ExperimentJob
from stockpot.experiment.jobs.merges import Merges
from stockpot.ingredients.points import Point, ingredient_seed
from stockpot.seeding import derive_seed
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FIRST = 8
"""Number of ingredients before the first proposals."""

ROUND = 4
"""Number of ingredients per round; fixed, so that results do not depend on the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalJob(ExperimentJob):
    """The next round of a sweep.

    Attributes:
        space: a distribution per hyperparameter.
        points: the hyperparameters of all ingredients so far, in order of training.
        models: the trained models with val scores; None for failed ones.
        count: number of proposals.
    """

    space: Mapping[str, Distribution]
    points: tuple[Point, ...]
    models: tuple[Model | None, ...]
    count: int


def propose(job: ProposalJob, device: str) -> list[Point]:
    """Return the hyperparameters of the next ingredients; runs in a worker process."""
    values = _values(job, device)
    axes = {name: axis for name, axis in job.space.items() if not isinstance(axis, Constant)}
    constants = {n: axis.value for n, axis in job.space.items() if isinstance(axis, Constant)}
    tried = [{name: point[name] for name in axes} for point in job.points]
    first = len(tried)
    seed = derive_seed("soup search", job.seed, first)
    proposals = _ask(axes, zip(tried, values, strict=True), job.count, seed)
    return [
        {"seed": ingredient_seed(job.seed, number)} | constants | proposed
        for number, proposed in enumerate(proposals, start=first)
    ]


def _values(job: ProposalJob, device: str) -> list[float]:
    """Return the gain of the greedy soup from each ingredient; the lowest one for failed ones."""
    from stockpot.soups.selection.gains import soup_gains

    pool = [model for model in job.models if model is not None]
    if len(pool) < 2:
        return [0.0] * len(job.models)
    merges = Merges(job.root, job.workload, pool, device)
    gains = soup_gains(rank(pool, job.metric), merges.score_members)
    of_pool = iter(gains)
    return [min(gains) if model is None else next(of_pool) for model in job.models]


def _ask(
    axes: Mapping[str, Distribution],
    tried: Iterable[tuple[Point, float]],
    count: int,
    seed: int,
) -> list[Point]:
    """Ask Optuna for the next points; each proposal counts as a poor trial for those after it."""
    import warnings

    import optuna
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed % 2**32, multivariate=True, constant_liar=True, n_startup_trials=0
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {name: _distribution(axis) for name, axis in axes.items()}
    for point, value in tried:
        trial = create_trial(params=point, distributions=distributions, value=value)
        study.add_trial(trial)
    return [dict(study.ask(distributions).params) for _ in range(count)]


def _distribution(axis: Distribution) -> BaseDistribution:
    from optuna import distributions

    if isinstance(axis, Integer):
        return distributions.IntDistribution(axis.low, axis.high)
    if isinstance(axis, Uniform | LogUniform):
        is_log = isinstance(axis, LogUniform)
        return distributions.FloatDistribution(axis.low, axis.high, log=is_log)
    return distributions.CategoricalDistribution(axis.values())
