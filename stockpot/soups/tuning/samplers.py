"""Optuna's samplers by their names in params.yaml."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import optuna
from optuna import Study, samplers
from optuna.trial import FrozenTrial

from stockpot.errors import unknown_name


class _OrderedNSGAII(samplers.NSGAIISampler):
    """NSGA-II with parents in the order of their trials.

    Optuna orders them differently on the first call in a process than from its cache, so that an
    interrupted search would sample other children.
    """

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the parents of a generation, sorted."""
        parents = super().get_parent_population(study, generation)
        return sorted(parents, key=lambda trial: trial.number)


_SAMPLERS: dict[str, Callable[[int], samplers.BaseSampler]] = {
    "cmaes": lambda seed: samplers.CmaEsSampler(seed=seed),
    "gp": lambda seed: samplers.GPSampler(seed=seed, deterministic_objective=True),
    "nsga2": lambda seed: _OrderedNSGAII(seed=seed, population_size=20),
    "random": lambda seed: samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: samplers.TPESampler(seed=seed, multivariate=True),
}


def make_sampler(name: str, seed: int) -> samplers.BaseSampler:
    """Build a seeded sampler.

    Raises:
        InputError: the name is unknown.
    """
    if name not in _SAMPLERS:
        raise unknown_name("sampler", name, _SAMPLERS)
    with warnings.catch_warnings():
        # Multivariate TPE and GP are marked experimental, but recommended by Optuna.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _SAMPLERS[name](seed)
