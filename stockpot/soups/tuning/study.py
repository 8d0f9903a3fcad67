"""Coefficient search with Optuna: persistent, resumed trial by trial, warm-started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.seeding import derive_seed
from stockpot.soups.tuning.samplers import make_sampler

if TYPE_CHECKING:
    from optuna import Study

Objectives = Callable[[Sequence[float]], tuple[float, ...]]
"""Coefficients (M,) -> one val score per objective; higher is better."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate: its scores, its coefficients, and its origin."""

    number: int
    values: tuple[float, ...]
    coefficients: tuple[float, ...]
    source: str


@dataclass(frozen=True, slots=True)
class TunedCoefficients:
    """The outcome of a search.

    Attributes:
        best: the best trial, or the one of the Pareto front with the highest sum.
        trials: all trials, in order.
        front: the Pareto front, sorted by the first objective; empty with one objective.
    """

    best: Trial
    trials: list[Trial]
    front: list[Trial]


def tune_coefficients(  # noqa: PLR0913 (all that defines a search)
    journal: Path,
    objectives: Objectives,
    warm_starts: Mapping[str, Sequence[float]],
    *,
    num_objectives: int,
    sampler: str,
    trials: int,
    seed: int,
) -> TunedCoefficients:
    """Search coefficients on the simplex that maximize the objectives.

    The study is stored in `journal`: a search that was killed continues with the next trial, and a
    longer search continues a shorter one. The sampler is seeded for each trial from its number, so
    that interruptions do not change the outcome.

    Args:
        journal: Optuna's journal file, of this search only.
        objectives: scores coefficients; deterministic.
        warm_starts: named points of the unit box (M,), which are tried first.
        num_objectives: number of values that `objectives` returns: 1 or 2.
        sampler: name of one of Optuna's samplers.
        trials: number of trials, including the warm starts.
        seed: seed of the sampler.
    """
    stored = _open_study(journal, num_objectives)
    names = [f"c{position}" for position in range(len(next(iter(warm_starts.values()))))]
    study = _continued(stored, warm_starts, names, trials)
    for number in range(len(stored.trials), trials):
        study.sampler = make_sampler(sampler, derive_seed("tune", seed, number) % 2**32)
        trial = study.ask()
        position = [trial.suggest_float(name, 0.0, 1.0) for name in names]
        # Stored when it is complete, so that a killed search leaves no unfinished trial.
        stored.add_trial(study.tell(trial, objectives(to_simplex(position))))
    return _outcome(study, names, trials)


def to_simplex(position: Sequence[float]) -> list[float]:
    """Map a point of the unit box (M,) to M coefficients >= 0 that sum to 1.

    The point is divided by its sum, so that a corner of the box is the mean of some ingredients
    exactly, such as the warm starts (uniform, greedy, best single). The origin is mapped to the
    uniform soup.
    """
    total = sum(position)
    if total == 0:
        return [1 / len(position)] * len(position)
    return [value / total for value in position]


def _open_study(journal: Path, num_objectives: int) -> Study:
    """Open or create the study in the journal file."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    _drop_half_line(journal)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name="coefficients",
        directions=["maximize"] * num_objectives,
        load_if_exists=True,
    )


def _drop_half_line(journal: Path) -> None:
    """Remove an incomplete last line after a crash or on a full disk; Optuna would append to it."""
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _continued(
    stored: Study, warm_starts: Mapping[str, Sequence[float]], names: Sequence[str], trials: int
) -> Study:
    """Return a study in memory with the stored trials, and the other warm starts enqueued.

    Of more stored trials it has the first `trials`: a longer search may share the journal.
    """
    import optuna

    study = optuna.create_study(directions=stored.directions)
    study.add_trials(stored.trials[:trials])
    for source, start in list(warm_starts.items())[len(stored.trials) :]:
        point = dict(zip(names, start, strict=True))
        study.enqueue_trial(point, user_attrs={"source": source})
    return study


def _outcome(study: Study, names: Sequence[str], trials: int) -> TunedCoefficients:
    """Read the first `trials` trials; warm starts may still be enqueued after them."""
    done = [
        Trial(
            frozen.number,
            tuple(frozen.values),
            tuple(to_simplex([frozen.params[name] for name in names])),
            frozen.user_attrs.get("source", "sampler"),
        )
        for frozen in study.trials[:trials]
    ]
    front = _pareto_front(study, done) if len(study.directions) > 1 else []
    # max() returns the first of equal ones: a warm start, unless the search found a better one.
    best = max(front or done, key=lambda trial: sum(trial.values))
    return TunedCoefficients(best, done, front)


def _pareto_front(study: Study, done: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other one dominates, the first of equal ones, sorted."""
    front = {tuple(best.values): done[best.number] for best in reversed(study.best_trials)}
    return [front[values] for values in sorted(front)]
