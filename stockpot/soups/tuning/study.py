"""A study of Optuna: persistent, asked in batches, resumed trial by trial, warm-started."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from stockpot.seeding import derive_seed
from stockpot.soups.tuning.budget import Budget
from stockpot.soups.tuning.objectives import Scored
from stockpot.soups.tuning.samplers import make_sampler
from stockpot.workers.inside import note_step

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import BaseTrial, FrozenTrial
    from optuna.trial import Trial as OptunaTrial

C = TypeVar("C")
Direction = Literal["maximize", "minimize"]
Parameters = Mapping[str, Any]
Key = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Trial(Generic[C]):
    """One candidate: its scores, the parameters that it was made from, and its origin."""

    number: int
    scored: Scored
    parameters: Parameters
    candidate: C
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan(Generic[C]):
    """All that defines the trials of a study.

    Attributes:
        name: of the study in the journal.
        journal: Optuna's journal file, of this study only.
        directions: `maximize` or `minimize`, one per objective.
        propose: asks a trial for parameters; returns the candidate that they mean.
        evaluate: candidates -> their scores, lazily and in order; deterministic.
        starts: parameters of candidates that are tried first, by name.
        sampler: name of a sampler.
        seed: of the samplers.
        batch: number of trials that are proposed together, from those of earlier batches alone.
        is_conditional: whether some parameters depend on another one.
    """

    name: str
    journal: Path
    directions: list[Direction]
    propose: Callable[[BaseTrial], C]
    evaluate: Callable[[Sequence[C]], Iterable[Scored]]
    starts: Mapping[str, Parameters]
    sampler: str
    seed: int
    batch: int = 1
    is_conditional: bool = False


def run_study(plan: StudyPlan[C], budget: Budget) -> list[Trial[C]]:
    """Run the trials of a study, and return all of them in order.

    The study is stored in its journal: one that was killed continues with the next trial, and a
    longer one continues a shorter one. Each trial has a sampler of its own, seeded by the trial's
    number, and sees the results of earlier batches alone; so neither interruptions nor the order
    in which a batch is evaluated change the outcome.
    """
    running = _Running(plan)
    ended = running.ended_after(budget)
    left = budget if ended is None else Budget(trials=ended)
    while not left.is_spent(len(running.trials), len(running.known)):
        most = left.most_trials
        size = plan.batch if most is None else min(plan.batch, most - len(running.trials))
        running.do_batch(size)
        if most is not None:
            note_step(len(running.trials), most)
    if budget.seconds is not None:
        running.note_end(budget)
    return running.trials


@dataclass(frozen=True, slots=True)
class _Asked(Generic[C]):
    """A proposal that has no scores yet."""

    trial: OptunaTrial
    sampler: BaseSampler
    candidate: C

    @property
    def key(self) -> Key:
        return tuple(sorted(self.trial.params.items()))


@dataclass
class _Running(Generic[C]):
    """The state of a study: its journal, and a copy in memory that the samplers see."""

    plan: StudyPlan[C]
    trials: list[Trial[C]] = field(default_factory=list)
    known: dict[Key, Scored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import optuna

        self._stored = _open_study(self.plan)
        self._done = self._stored.trials
        self._memory = optuna.create_study(directions=self.plan.directions)

    def do_batch(self, size: int) -> None:
        """Propose candidates together, score those that are not stored, and store them in order."""
        first = len(self.trials)
        self._enqueue(first, size)
        asked = [self._ask(number) for number in range(first, first + size)]
        done = self._done[first : first + size]
        for one, frozen in zip(asked, done, strict=False):
            self.known[one.key] = _scored(frozen)
        new = {one.key: one.candidate for one in asked if one.key not in self.known}
        results = zip(new, self.plan.evaluate([*new.values()]), strict=True)
        for number, one in enumerate(asked, first):
            while one.key not in self.known:
                key, scored = next(results)
                self.known[key] = scored
            frozen = self._tell(one)
            if number >= len(self._done):
                # When it is complete, so that a killed search leaves no unfinished trial.
                self._stored.add_trial(frozen)

    def _tell(self, one: _Asked[C]) -> FrozenTrial:
        scored = self.known[one.key]
        for place, violation in enumerate(scored.violations):
            one.trial.set_constraint(f"floor {place}", violation)
        self._memory.sampler = one.sampler
        frozen = self._memory.tell(one.trial, scored.values)
        source = frozen.user_attrs.get("source", "sampler")
        made = Trial(frozen.number, scored, dict(frozen.params), one.candidate, source)
        self.trials.append(made)
        return frozen

    def _enqueue(self, first: int, size: int) -> None:
        for source, start in [*self.plan.starts.items()][first : first + size]:
            self._memory.enqueue_trial(dict(start), user_attrs={"source": source})

    def _ask(self, number: int) -> _Asked[C]:
        plan = self.plan
        sampler = make_sampler(
            plan.sampler,
            derive_seed("tune", plan.seed, number) % 2**32,
            study_seed=plan.seed,
            number=number,
            is_conditional=plan.is_conditional,
            in_batches=plan.batch > 1,
        )
        self._memory.sampler = sampler
        trial = self._memory.ask()
        return _Asked(trial, sampler, plan.propose(trial))

    def ended_after(self, budget: Budget) -> int | None:
        """Return the number of trials that a finished search of so many seconds had."""
        if budget.seconds is None:
            return None
        found: int | None = self._stored.user_attrs.get(_ended(budget))
        return found

    def note_end(self, budget: Budget) -> None:
        """Record how many trials there were time for, so that the search can be repeated."""
        self._stored.set_user_attr(_ended(budget), len(self.trials))


def stored_trials(plan: StudyPlan[Any]) -> list[FrozenTrial]:
    """Return the trials of a study that has run, as Optuna stores them."""
    return _open_study(plan).trials


def _ended(budget: Budget) -> str:
    return f"trials in {budget.seconds:g} seconds"


def _scored(frozen: FrozenTrial) -> Scored:
    constraints = frozen.constraints
    return Scored(tuple(frozen.values), tuple(constraints[name] for name in constraints))


def _open_study(plan: StudyPlan[Any]) -> Study:
    """Open or create the study in the journal file."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan.journal.parent.mkdir(parents=True, exist_ok=True)
    _drop_half_line(plan.journal)
    storage = JournalStorage(JournalFileBackend(str(plan.journal)))
    # Two soups may share a journal: the study has the name of the one that began it.
    known = [study.study_name for study in storage.get_all_studies()]
    return optuna.create_study(
        storage=storage,
        study_name=known[0] if known else plan.name,
        directions=plan.directions,
        load_if_exists=True,
    )


def _drop_half_line(journal: Path) -> None:
    """Remove an incomplete last line after a crash or on a full disk; Optuna would append to it."""
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
