from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from optuna.trial import BaseTrial

from stockpot.errors import InputError
from stockpot.soups.tuning.budget import Budget
from stockpot.soups.tuning.method_space import MethodSpace
from stockpot.soups.tuning.objectives import Scored, best_of
from stockpot.soups.tuning.samplers import SAMPLERS as BUILT_IN
from stockpot.soups.tuning.samplers import make_sampler
from stockpot.soups.tuning.study import StudyPlan, Trial, run_study

SAMPLERS = [*BUILT_IN]
Coefficients = tuple[float, ...]

WARM_STARTS = {"uniform": [0, 1, 2], "greedy": [0, 2], "best single": [2]}

# Past each sampler's random start: 10 trials, or a population of 20.
TRIALS = {"tpe": 16, "gp": 13, "cmaes": 16, "nsga2": 43, "nsga3": 43, "random": 8, "qmc": 8}

FRONT_TRIALS = {"tpe": 14, "gp": 12, "nsga2": 43, "nsga3": 43, "random": 8, "qmc": 8}


class Tuned(NamedTuple):
    """The outcome of a search."""

    best: Trial[Coefficients]
    trials: list[Trial[Coefficients]]
    front: list[Trial[Coefficients]]


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
    journal: Path,
    sampler: str,
    trials: int,
    scores: Callable[[Sequence[float]], tuple[float, ...]],
    num_objectives: int = 1,
    *,
    batch: int = 1,
    seed: int = 5,
) -> Tuned:
    space = MethodSpace.of("linear", None)

    def propose(trial: BaseTrial) -> Coefficients:
        return space.ask(trial, "", 3)[0]

    plan = StudyPlan(
        name="toy",
        journal=journal,
        directions=["maximize", "maximize"][:num_objectives],
        propose=propose,
        evaluate=lambda candidates: (Scored(scores(one)) for one in candidates),
        starts={name: space.start("", members, 3) for name, members in WARM_STARTS.items()},
        sampler=sampler,
        seed=seed,
        batch=batch,
    )
    done = run_study(plan, Budget(trials=trials))
    best, front = best_of(done, ["val", "val_shift"][:num_objectives], lambda trial: trial.scored)
    return Tuned(best, done, front)


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
    resumed = _until_done(
        lambda scores: _tune(journal, sampler, trials, scores, num_objectives), num_objectives
    )

    assert resumed == whole


def _until_done(tune: Callable[[Scores], Tuned], num_objectives: int = 1) -> Tuned:
    """Run a search that ends in the middle of a trial again and again, until it is done."""
    for stop_after in itertools.cycle((1, 3, 11)):
        try:
            return tune(Scores(num_objectives, stop_after))
        except Stopped:
            continue
    raise AssertionError("unreachable")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_in_batches_that_is_interrupted_ends_like_one_that_was_not(
    tmp_path: Path, sampler: str
) -> None:
    trials = TRIALS[sampler] - 1  # the last batch is cut off
    whole = _tune(tmp_path / "whole", sampler, trials, Scores(), batch=4)

    journal = tmp_path / "interrupted"
    resumed = _until_done(lambda scores: _tune(journal, sampler, trials, scores, batch=4))

    assert resumed == whole


def test_the_proposals_of_a_batch_do_not_depend_on_its_scores(tmp_path: Path) -> None:
    first = _tune(tmp_path / "first", "tpe", 16, Scores(), batch=8)

    calls = itertools.count()

    def other_scores_from_trial_8(coefficients: Sequence[float]) -> tuple[float, ...]:
        return (Scores()(coefficients)[0] if next(calls) < 8 else 1.0,)

    second = _tune(tmp_path / "second", "tpe", 16, other_scores_from_trial_8, batch=8)

    assert [t.parameters for t in first.trials] == [t.parameters for t in second.trials]


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
    assert shorter.best == max(longer.trials[:5], key=lambda trial: trial.scored.values)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_warm_starts_come_first_and_exactly(tmp_path: Path, sampler: str) -> None:
    scores = Scores()

    tuned = _tune(tmp_path / "journal", sampler, 4, scores)

    assert scores.calls[:3] == [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]
    assert [trial.source for trial in tuned.trials] == [*WARM_STARTS, "sampler"]
    assert [trial.number for trial in tuned.trials] == [0, 1, 2, 3]
    assert [list(trial.candidate) for trial in tuned.trials] == scores.calls


def test_fewer_trials_than_warm_starts_try_the_first_ones(tmp_path: Path) -> None:
    tuned = _tune(tmp_path / "journal", "tpe", 2, Scores())

    assert [trial.source for trial in tuned.trials] == ["uniform", "greedy"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_candidate_is_on_the_simplex(tmp_path: Path, sampler: str) -> None:
    scores = Scores()

    _tune(tmp_path / "journal", sampler, TRIALS[sampler], scores)

    assert len(scores.calls) <= TRIALS[sampler]  # equal candidates are scored once
    assert all(sum(coefficients) == pytest.approx(1) for coefficients in scores.calls)
    assert all(value >= 0 for coefficients in scores.calls for value in coefficients)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_best_is_the_highest_of_all_trials(tmp_path: Path, sampler: str) -> None:
    tuned = _tune(tmp_path / "journal", sampler, TRIALS[sampler], Scores())

    assert tuned.best.scored.values == max(trial.scored.values for trial in tuned.trials)
    assert tuned.best.scored.values >= max(trial.scored.values for trial in tuned.trials[:3])
    assert tuned.front == []


def test_a_warm_start_stays_where_nothing_better_is_found(tmp_path: Path) -> None:
    tuned = _tune(tmp_path / "journal", "random", 6, lambda _coefficients: (1.0,), seed=0)

    assert tuned.best == tuned.trials[0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_candidate_is_drawn_twice(tmp_path: Path, sampler: str) -> None:
    scores = Scores()

    _tune(tmp_path / "journal", sampler, 9, scores)

    assert len({tuple(coefficients) for coefficients in scores.calls}) == 9


def test_another_seed_searches_elsewhere(tmp_path: Path) -> None:
    found = [_tune(tmp_path / str(seed), "random", 5, Scores(), seed=seed) for seed in (0, 1)]

    assert found[0].trials[3:] != found[1].trials[3:]


def test_two_objectives_give_a_front_and_its_highest_sum_is_used(tmp_path: Path) -> None:
    tuned = _tune(tmp_path / "journal", "nsga2", 30, Scores(2), num_objectives=2)

    assert tuned.front == sorted(tuned.front, key=lambda trial: trial.scored.values)
    assert {trial.scored.values for trial in tuned.front} == _front_by_brute_force(tuned.trials)
    assert len(tuned.front) > 1
    assert sum(tuned.best.scored.values) == max(sum(trial.scored.values) for trial in tuned.trials)


def _front_by_brute_force(trials: Sequence[Trial[Coefficients]]) -> set[tuple[float, ...]]:
    """Keep each value that no other one is as good as in both and better in one."""
    values = {(trial.scored.values[0], trial.scored.values[1]) for trial in trials}
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

    tuned = _tune(tmp_path / "journal", "random", len(values), lambda _one: next(left), 2, seed=0)

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
from stockpot.soups.tuning.budget import Budget
from stockpot.soups.tuning.method_space import MethodSpace
from stockpot.soups.tuning.objectives import Scored
from stockpot.soups.tuning.study import StudyPlan, run_study

space, calls = MethodSpace.of("linear", None), []

def scored(coefficients):
    calls.append(coefficients)
    if len(calls) == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    first, second, third = coefficients
    return Scored((-((first - 0.5) ** 2) - (second - 0.3) ** 2,))

members = {"uniform": [0, 1, 2], "greedy": [0, 2], "best single": [2]}
plan = StudyPlan(
    name="toy",
    journal=Path(sys.argv[1]),
    directions=["maximize"],
    propose=lambda trial: space.ask(trial, "", 3)[0],
    evaluate=lambda candidates: map(scored, candidates),
    starts={name: space.start("", own, 3) for name, own in members.items()},
    sampler="tpe",
    seed=5,
)
run_study(plan, Budget(trials=16))
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
        "unknown sampler 'cmeas', choose from ['cmaes', 'gp', 'nsga2', 'nsga3', 'qmc', "
        "'random', 'tpe']; "
        "did you mean 'cmaes'?"
    )
