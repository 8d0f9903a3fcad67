"""A sweep that searches for ingredients that improve the soup.

The first ingredients are those of a Sobol sequence. Then, in rounds, the value of each ingredient
is the gain on val of the greedy soup of all ingredients from it, and a tree-structured Parzen
estimator proposes hyperparameters for high values. A good model that is similar to those in the
soup has a low value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.ingredients.points import (
    Constant,
    Distribution,
    Integer,
    LogUniform,
    Point,
    Uniform,
    ingredient_seed,
)
from stockpot.seeding import derive_seed
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FIRST = 8
"""Number of ingredients before the first proposals."""

ROUND = 4
"""Number of ingredients per round; fixed, so that results do not depend on the machine."""


@dataclass(frozen=True, slots=True)
class ProposalJob:
    """The next round of a sweep, as plain values that a worker process can be sent.

    Attributes:
        root: the project root.
        workload: the data; gains are measured on its val split.
        metric: name of the val score that orders the ingredients.
        space: a distribution per hyperparameter.
        points: the hyperparameters of all ingredients so far, in order of training.
        models: the trained models with val scores; None for failed ones.
        seed: seed of the proposals.
        count: number of proposals.
    """

    root: Path
    workload: WorkloadSpec
    metric: str
    space: Mapping[str, Distribution]
    points: tuple[Point, ...]
    models: tuple[Model | None, ...]
    seed: int
    count: int


def propose(job: ProposalJob, device: str) -> list[Point]:
    """Return the hyperparameters of the next ingredients; runs in a worker process."""
    values = _values(job, device)
    names = {name: axis for name, axis in job.space.items() if not isinstance(axis, Constant)}
    constants = {n: axis.value for n, axis in job.space.items() if isinstance(axis, Constant)}
    tried = [
        ({name: point[name] for name in names}, v)
        for point, v in zip(job.points, values, strict=True)
    ]
    first = len(job.points)
    return [
        {"seed": ingredient_seed(job.seed, first + number)} | constants | proposed
        for number, proposed in enumerate(
            _ask(names, tried, job.count, derive_seed("soup search", job.seed, first))
        )
    ]


def _values(job: ProposalJob, device: str) -> list[float]:
    """Return the gain of the greedy soup from each ingredient; the lowest one for failed ones."""
    from stockpot.merging.stack import IngredientStack
    from stockpot.scoring.val_scores import ValScorer
    from stockpot.soups.preparation.recalibration import Recalibration
    from stockpot.soups.selection.gains import soup_gains
    from stockpot.storage.checkpoints import load_tensors, verify

    pool = [model for model in job.models if model is not None]
    if len(pool) < 2:
        return [0.0] * len(job.models)
    scorer = ValScorer(job.workload.build(), device)
    recalibrated = Recalibration(job.workload.build(), device)
    stack = IngredientStack([load_tensors(verify(job.root, m.checkpoint)) for m in pool], device)
    gains = soup_gains(
        rank(pool, job.metric), lambda m: scorer.val_values(recalibrated(stack.mean_of(m), len(m)))
    )
    of_pool = iter(gains)
    return [min(gains) if model is None else next(of_pool) for model in job.models]


def _ask(
    axes: Mapping[str, Distribution],
    tried: Sequence[tuple[Point, float]],
    count: int,
    seed: int,
) -> list[Point]:
    """Ask Optuna for the next points; each proposal counts as a poor trial for those after it."""
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed % 2**32, multivariate=True, constant_liar=True, n_startup_trials=0
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {name: _distribution(axis) for name, axis in axes.items()}
    for point, value in tried:
        study.add_trial(
            optuna.trial.create_trial(params=point, distributions=distributions, value=value)
        )
    return [dict(study.ask(distributions).params) for _ in range(count)]


def _distribution(axis: Distribution) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(axis, Integer):
        return IntDistribution(axis.low, axis.high)
    if isinstance(axis, Uniform | LogUniform):
        return FloatDistribution(axis.low, axis.high, log=isinstance(axis, LogUniform))
    return CategoricalDistribution(axis.values())
