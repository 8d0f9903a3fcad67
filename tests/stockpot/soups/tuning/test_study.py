from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest

from stockpot.errors import InputError
from stockpot.soups.tuning.registry import SEARCHES
from stockpot.soups.tuning.samplers import make_sampler
from stockpot.soups.tuning.study import Trial, TunedCoefficients, tune_coefficients

SAMPLERS = get_args(SEARCHES["optuna"].options["sampler"].annotation)

WARM_STARTS = {"uniform": [1.0, 1.0, 1.0], "greedy": [1.0, 0.0, 1.0], "best single": [0, 0, 1.0]}

# Past each sampler's random start: 10 trials, or a population of 20.
TRIALS = {"tpe": 16, "gp": 13, "cmaes": 16, "nsga2": 43, "random": 8}

FRONT_TRIALS = {"tpe": 14, "gp": 12, "nsga2": 43, "random": 8}


class Stopped(Exception):
    """What ends a search in the middle of a trial."""


class Scores:
    """Toy scores of coefficients, which end the search after some calls."""

    def __init__(self, num_objectives: int = 1, stop_after: int | None = None) -> None:
        self.calls: list[list[float]] = []
        self._num_objectives = num_objectives
        self._stop_after = stop_after

    def __call__(self, coefficients: Sequence[float]) -> tuple[float, ...]:
        if len(self.calls) == self._stop_after:
            raise Stopped
        self.calls.append(list(coefficients))
        first, second, third = coefficients
        near_a_point = -((first - 0.5) ** 2) - (second - 0.3) ** 2
        return (near_a_point, first - third**2)[: self._num_objectives]


def _tune(
    journal: Path, sampler: str, trials: int, scores: Scores, num_objectives: int = 1
) -> TunedCoefficients:
    return tune_coefficients(
        journal,
        scores,
        WARM_STARTS,
        num_objectives=num_objectives,
        sampler=sampler,
        trials=trials,
        seed=5,
    )


def test_every_sampler_of_params_yaml_is_tested() -> None:
    assert set(SAMPLERS) == set(TRIALS)


@pytest.mark.parametrize(
    ("sampler", "num_objectives", "trials"),
    [(name, 1, trials) for name, trials in TRIALS.items()]
    + [(name, 2, trials) for name, trials in FRONT_TRIALS.items()],
)
def test_an_interrupted_search_ends_like_one_that_was_not(
    tmp_path: Path, sampler: str, num_objectives: int, trials: int
) -> None:
    whole = _tune(tmp_path / "whole", sampler, trials, Scores(num_objectives), num_objectives)

    journal = tmp_path / "interrupted"
    stops = [0, 1, 4, trials * 2 // 3, trials - 1]
    for done, stop in itertools.pairwise(stops):
        with pytest.raises(Stopped):
            _tune(journal, sampler, trials, Scores(num_objectives, stop - done), num_objectives)
    rest = Scores(num_objectives)
    resumed = _tune(journal, sampler, trials, rest, num_objectives)

    assert resumed == whole
    assert len(rest.calls) == 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_longer_search_continues_a_shorter_one(tmp_path: Path, sampler: str) -> None:
    trials = TRIALS[sampler]
    whole = _tune(tmp_path / "whole", sampler, trials, Scores())

    shorter = _tune(tmp_path / "grown", sampler, trials - 3, Scores())
    more = Scores()
    grown = _tune(tmp_path / "grown", sampler, trials, more)

    assert shorter.trials == whole.trials[:-3]
    assert grown == whole
    assert len(more.calls) == 3


def test_a_shorter_search_reads_the_start_of_a_longer_one(tmp_path: Path) -> None:
    longer = _tune(tmp_path / "journal", "random", 8, Scores())
    none_needed = Scores(stop_after=0)

    shorter = _tune(tmp_path / "journal", "random", 5, none_needed)

    assert shorter.trials == longer.trials[:5]
    assert shorter.best == max(longer.trials[:5], key=lambda trial: trial.values)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_warm_starts_come_first_and_exactly(tmp_path: Path, sampler: str) -> None:
    scores = Scores()

    tuned = _tune(tmp_path / "journal", sampler, 4, scores)

    assert scores.calls[:3] == [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]
    assert [trial.source for trial in tuned.trials] == [*WARM_STARTS, "sampler"]
    assert [trial.number for trial in tuned.trials] == [0, 1, 2, 3]
    assert [list(trial.coefficients) for trial in tuned.trials] == scores.calls


def test_fewer_trials_than_warm_starts_try_the_first_ones(tmp_path: Path) -> None:
    tuned = _tune(tmp_path / "journal", "tpe", 2, Scores())

    assert [trial.source for trial in tuned.trials] == ["uniform", "greedy"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_candidate_is_on_the_simplex(tmp_path: Path, sampler: str) -> None:
    scores = Scores()

    _tune(tmp_path / "journal", sampler, TRIALS[sampler], scores)

    assert len(scores.calls) == TRIALS[sampler]
    assert all(sum(coefficients) == pytest.approx(1) for coefficients in scores.calls)
    assert all(value >= 0 for coefficients in scores.calls for value in coefficients)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_best_is_the_highest_of_all_trials(tmp_path: Path, sampler: str) -> None:
    tuned = _tune(tmp_path / "journal", sampler, TRIALS[sampler], Scores())

    assert tuned.best.values == max(trial.values for trial in tuned.trials)
    assert tuned.best.values >= max(trial.values for trial in tuned.trials[:3])
    assert tuned.front == []


def test_a_warm_start_stays_where_nothing_better_is_found(tmp_path: Path) -> None:
    tuned = tune_coefficients(
        tmp_path / "journal",
        lambda coefficients: (round(coefficients[2]) * 0.0 + 1.0,),
        WARM_STARTS,
        num_objectives=1,
        sampler="random",
        trials=6,
        seed=0,
    )

    assert tuned.best == tuned.trials[0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_candidate_is_drawn_twice(tmp_path: Path, sampler: str) -> None:
    scores = Scores()

    _tune(tmp_path / "journal", sampler, 9, scores)

    assert len({tuple(coefficients) for coefficients in scores.calls}) == 9


def test_another_seed_searches_elsewhere(tmp_path: Path) -> None:
    found = [
        tune_coefficients(
            tmp_path / str(seed),
            Scores(),
            WARM_STARTS,
            num_objectives=1,
            sampler="random",
            trials=5,
            seed=seed,
        )
        for seed in (0, 1)
    ]

    assert found[0].trials[3:] != found[1].trials[3:]


def test_two_objectives_give_a_front_and_its_highest_sum_is_used(tmp_path: Path) -> None:
    tuned = _tune(tmp_path / "journal", "nsga2", 30, Scores(2), num_objectives=2)

    assert tuned.front == sorted(tuned.front, key=lambda trial: trial.values)
    assert {trial.values for trial in tuned.front} == _front_by_brute_force(tuned.trials)
    assert len(tuned.front) > 1
    assert sum(tuned.best.values) == max(sum(trial.values) for trial in tuned.trials)


def _front_by_brute_force(trials: Sequence[Trial]) -> set[tuple[float, ...]]:
    """Keep each value that no other one is as good as in both and better in one."""
    values = {trial.values for trial in trials}
    return {
        (first, second)
        for first, second in values
        if not any(
            (other > first and another >= second) or (other >= first and another > second)
            for other, another in values
        )
    }


def test_of_equal_trials_the_first_is_in_the_front(tmp_path: Path) -> None:
    values = [(0, 3), (1, 1), (0, 2), (3, 0), (1, 1), (0, 3), (2, 0)]
    left = iter(values)

    tuned = tune_coefficients(
        tmp_path / "journal",
        lambda _coefficients: next(left),
        WARM_STARTS,
        num_objectives=2,
        sampler="random",
        trials=len(values),
        seed=0,
    )

    assert [trial.number for trial in tuned.front] == [0, 1, 3]


@pytest.mark.parametrize("kept_bytes", [1, 30])
def test_a_line_cut_off_by_a_full_disk_is_dropped(tmp_path: Path, kept_bytes: int) -> None:
    whole = _tune(tmp_path / "whole", "tpe", 8, Scores())
    journal = tmp_path / "cut"
    _tune(journal, "tpe", 6, Scores())
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines) + lines[-1][:kept_bytes])

    resumed = _tune(journal, "tpe", 8, Scores())

    assert resumed == whole
    assert _tune(journal, "tpe", 8, Scores(stop_after=0)) == whole


KILLED_IN_A_TRIAL = """
import os, signal, sys
from pathlib import Path
from stockpot.soups.tuning.study import tune_coefficients

calls = []

def scores(coefficients):
    calls.append(coefficients)
    if len(calls) == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    first, second, third = coefficients
    return (-((first - 0.5) ** 2) - (second - 0.3) ** 2,)

starts = {"uniform": [1.0, 1.0, 1.0], "greedy": [1.0, 0.0, 1.0], "best single": [0, 0, 1.0]}
tune_coefficients(
    Path(sys.argv[1]), scores, starts, num_objectives=1, sampler="tpe", trials=16, seed=5
)
"""


def test_a_search_continues_after_kill_9(tmp_path: Path) -> None:
    whole = _tune(tmp_path / "whole", "tpe", 16, Scores())
    journal = tmp_path / "killed"
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_A_TRIAL, str(journal)], check=False)
    rest = Scores()

    resumed = _tune(journal, "tpe", 16, rest)

    assert killed.returncode == -signal.SIGKILL
    assert resumed == whole
    assert len(rest.calls) == 16 - 11


def test_an_unknown_sampler_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        make_sampler("cmeas", 0)

    assert str(caught.value) == (
        "unknown sampler 'cmeas', choose from ['cmaes', 'gp', 'nsga2', 'random', 'tpe']; "
        "did you mean 'cmaes'?"
    )
