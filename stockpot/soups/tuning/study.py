"""Coefficient search with Optuna: persistent, resumed trial by trial, warm-started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.seeding import derive_seed
from stockpot.soups.tuning.samplers import make_sampler
from stockpot.soups.tuning.simplex import to_simplex

if TYPE_CHECKING:
    from optuna import Study

Objectives = Callable[[Sequence[float]], tuple[float, ...]]
"""Coefficients (M,) -> one val score an objective; higher is better."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate: its scores, its coefficients, and where it came from."""

    number: int
    values: tuple[float, ...]
    coefficients: tuple[float, ...]
    source: str


@dataclass(frozen=True, slots=True)
class TunedCoefficients:
    """The outcome of a search.

    Attributes:
        best: the trial to use: the best one, or of a Pareto front the one with the highest sum.
        trials: all trials, in order.
        front: the Pareto front, by the first objective; empty with one objective.
    """

    best: Trial
    trials: list[Trial]
    front: list[Trial]


def tune_coefficients(  # noqa: PLR0913 (a search is told all that defines it)
    journal: Path,
    objectives: Objectives,
    warm_starts: Mapping[str, Sequence[float]],
    *,
    num_objectives: int,
    sampler: str,
    trials: int,
    seed: int,
) -> TunedCoefficients:
    """Search coefficients on the simplex that raise the objectives.

    The study lives in `journal`: a search that was killed continues with the trial it was at, and
    a longer one continues a shorter one. The sampler is seeded anew for each trial from its
    number, so the outcome does not depend on interruptions.

    Args:
        journal: Optuna's journal file; one search's own.
        objectives: scores coefficients; deterministic.
        warm_starts: named points of the unit box (M,), tried first.
        num_objectives: how many values `objectives` returns: 1 or 2.
        sampler: one of Optuna's samplers, by name.
        trials: how many in all, the warm starts included.
        seed: of the sampler.
    """
    kept = _open_study(journal, num_objectives)
    study = _continued(kept, warm_starts)
    names = _names(len(next(iter(warm_starts.values()))))
    for number in range(len(kept.trials), trials):
        study.sampler = make_sampler(sampler, derive_seed("tune", seed, number) % 2**32)
        trial = study.ask()
        position = [trial.suggest_float(name, 0.0, 1.0) for name in names]
        # Kept once it is complete: a killed search leaves no half-made trial behind.
        kept.add_trial(study.tell(trial, objectives(to_simplex(position))))
    return _outcome(kept, names, trials)


def _names(num_models: int) -> list[str]:
    return [f"c{position}" for position in range(num_models)]


def _open_study(journal: Path, num_objectives: int) -> Study:
    """Open the study in the journal file, or make it."""
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
    """Cut off what a full disk or a crash left of a last line; Optuna would write on behind it."""
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _continued(kept: Study, warm_starts: Mapping[str, Sequence[float]]) -> Study:
    """Return a study in memory with the kept trials, and the untried warm starts queued."""
    import optuna

    study = optuna.create_study(directions=kept.directions)
    study.add_trials(kept.trials)
    for source, start in list(warm_starts.items())[len(kept.trials) :]:
        point = dict(zip(_names(len(start)), start, strict=True))
        study.enqueue_trial(point, user_attrs={"source": source})
    return study


def _outcome(kept: Study, names: Sequence[str], trials: int) -> TunedCoefficients:
    """Read the first `trials` trials: a longer search that shares the journal changes nothing."""
    done = [
        Trial(
            frozen.number,
            tuple(frozen.values),
            tuple(to_simplex([frozen.params[name] for name in names])),
            frozen.user_attrs.get("source", "sampler"),
        )
        for frozen in kept.trials[:trials]
    ]
    front = _pareto_front(done) if len(kept.directions) > 1 else []
    # max() keeps the first of equals: a warm start stays where the search found nothing better.
    best = max(front or done, key=lambda trial: sum(trial.values))
    return TunedCoefficients(best, done, front)


def _pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other one beats in every value, without repeats, sorted."""
    front = {
        trial.values: trial
        for trial in reversed(trials)
        if not any(_dominates(other.values, trial.values) for other in trials)
    }
    return [front[values] for values in sorted(front)]


def _dominates(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Say whether `ours` is nowhere worse and somewhere better."""
    return all(a >= b for a, b in zip(ours, theirs, strict=True)) and tuple(ours) != tuple(theirs)
