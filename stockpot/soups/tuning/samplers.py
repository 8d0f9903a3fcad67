"""Optuna's samplers by their names in params.yaml, and the user's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna import Study, samplers
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from stockpot.errors import InputError
from stockpot.plugins import Registry
from stockpot.soups.tuning.sampler_names import BUILT_IN_SAMPLERS

_POPULATION = 20


class _OrderedNSGAII(samplers.NSGAIISampler):
    """NSGA-II with parents in the order of their trials.

    Optuna orders them differently on the first call in a process than from its cache, so that an
    interrupted search would sample other children.
    """

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the parents of a generation, sorted."""
        parents = super().get_parent_population(study, generation)
        return sorted(parents, key=lambda trial: trial.number)


class _OrderedNSGAIII(samplers.NSGAIIISampler):
    """NSGA-III with parents in the order of their trials, for the same reason."""

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the parents of a generation, sorted."""
        parents = super().get_parent_population(study, generation)
        return sorted(parents, key=lambda trial: trial.number)


class _NumberedQMC(samplers.QMCSampler):
    """A scrambled Sobol sequence whose points belong to the numbers of trials.

    Optuna counts points in the study, which an interrupted search would count anew.
    """

    def __init__(self, seed: int, number: int) -> None:
        super().__init__(seed=seed, scramble=True, warn_independent_sampling=False)
        self._number = number

    def _find_sample_id(self, _study: Study, _space: dict[str, BaseDistribution]) -> int:
        return self._number


def tpe(
    seed: int, *, is_conditional: bool, in_batches: bool, **_unused: Any
) -> samplers.BaseSampler:
    """Return TPE over all parameters together; running trials of a batch count as poor ones."""
    return samplers.TPESampler(
        seed=seed, multivariate=True, group=is_conditional, constant_liar=in_batches
    )


def gp(seed: int, **_unused: Any) -> samplers.BaseSampler:
    """Return a Gaussian process."""
    return samplers.GPSampler(seed=seed, deterministic_objective=True)


def cmaes(seed: int, **_unused: Any) -> samplers.BaseSampler:
    """Return CMA-ES."""
    return samplers.CmaEsSampler(seed=seed)


def nsga2(seed: int, **_unused: Any) -> samplers.BaseSampler:
    """Return NSGA-II."""
    return _OrderedNSGAII(seed=seed, population_size=_POPULATION)


def nsga3(seed: int, **_unused: Any) -> samplers.BaseSampler:
    """Return NSGA-III."""
    return _OrderedNSGAIII(seed=seed, population_size=_POPULATION)


def random(seed: int, **_unused: Any) -> samplers.BaseSampler:
    """Return uniform random sampling."""
    return samplers.RandomSampler(seed=seed)


def qmc(_seed: int, *, study_seed: int, number: int, **_unused: Any) -> samplers.BaseSampler:
    """Return a Sobol sequence, of one seed for all trials."""
    return _NumberedQMC(study_seed, number)


def _users(place: str, found: Any) -> Callable[..., samplers.BaseSampler]:
    """Return the function that builds a user's sampler, which takes a seed.

    Raises:
        InputError: it is no sampler.
    """
    if ":" not in place:
        built_in: Callable[..., samplers.BaseSampler] = found
        return built_in
    if not (isinstance(found, type) and issubclass(found, samplers.BaseSampler)):
        raise InputError(f"sampler {place!r}: must be a subclass of optuna.samplers.BaseSampler")

    make: Callable[..., samplers.BaseSampler] = found

    def build(seed: int, **_unused: Any) -> samplers.BaseSampler:
        try:
            return make(seed=seed)
        except TypeError as error:
            raise InputError(
                f"sampler {place!r}: must accept the argument `seed`, got {error}"
            ) from error

    return build


_HERE = "stockpot.soups.tuning.samplers"
SAMPLERS: Registry[Callable[..., samplers.BaseSampler]] = Registry(
    "sampler",
    {name: f"{_HERE}:{name}" for name in BUILT_IN_SAMPLERS},
    _users,
)
"""Name, or `module:Class` -> the function that builds the sampler of one trial."""


def make_sampler(
    name: str,
    seed: int,
    *,
    study_seed: int = 0,
    number: int = 0,
    is_conditional: bool = False,
    in_batches: bool = False,
) -> samplers.BaseSampler:
    """Build the sampler of one trial.

    Args:
        name: one of `SAMPLERS`, or `module:Class`.
        seed: of this trial.
        study_seed: of the study, for sequences.
        number: of the trial.
        is_conditional: whether some parameters depend on another one.
        in_batches: whether other trials may be running.

    Raises:
        InputError: the name is unknown, or the user's class is no sampler.
    """
    with warnings.catch_warnings():
        # Multivariate TPE, QMC and GP are marked experimental, but recommended by Optuna.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name](
            seed,
            study_seed=study_seed,
            number=number,
            is_conditional=is_conditional,
            in_batches=in_batches,
        )
