"""The searches of the tune stage: what each is told, and how it finds coefficients on val."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stockpot.storage.models import Model
from stockpot.storage.ranking import rank

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.experiment.jobs.tuning import TuningJob
    from stockpot.soups.tuning.adamerging import Pass
    from stockpot.soups.tuning.learned import Epoch
    from stockpot.soups.tuning.mixtures import Rows
    from stockpot.soups.tuning.study import Trial

State = dict[str, "Tensor"]


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search.

    Attributes:
        method: the merge method that the coefficients are for.
        per: what has coefficients of its own: model, layer or tensor.
        rows: the coefficients (M,) of each group of tensors, by its name.
        trials: what was tried, in order, for the manifest.
        details: of this kind of search, for the manifest.
        options: the merge method's own.
    """

    method: str
    per: str
    rows: Mapping[str, Sequence[float]]
    trials: list[dict[str, Any]]
    details: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OptunaSearch:
    """Candidates on the simplex, tried one after another.

    Attributes:
        objectives: `val`, `val_shift` or both.
        sampler: Optuna's sampler, by name.
        trials: how many candidates, warm starts included.
    """

    objectives: tuple[str, ...]
    sampler: str
    trials: int

    @property
    def study(self) -> dict[str, Any]:
        """What names the study: a search with more trials continues the one with fewer."""
        return {"objectives": self.objectives, "sampler": self.sampler}

    @property
    def recipe(self) -> dict[str, Any]:
        """The search, as it stands in manifests."""
        study = {"objectives": list(self.objectives), "sampler": self.sampler}
        return {"search": "optuna", "method": "linear", **study, "trials": self.trials}

    def find(self, job: TuningJob, states: Sequence[State], device: str) -> Found:
        """Search on val and its shifts, from the uniform, greedy and best single soup on."""
        from stockpot.merging.stack import IngredientStack
        from stockpot.scoring.val_scores import ValScorer
        from stockpot.soups.preparation.recalibration import Recalibration
        from stockpot.soups.tuning.study import tune_coefficients

        stack, scorer = IngredientStack(states, device), ValScorer(job.workload.build(), device)
        recalibrated = Recalibration(job.workload.build(), device)
        objectives = {"val": scorer.val, "val_shift": scorer.val_shift}

        def merged(coefficients: Sequence[float]) -> State:
            return recalibrated(stack.merge(coefficients), sum(c != 0 for c in coefficients))

        found = tune_coefficients(
            job.root / ".stockpot" / "studies" / f"{job.study_key}.log",
            lambda c: _values([objectives[name] for name in self.objectives], merged(c)),
            _warm_starts(job, lambda m: scorer.val_values(recalibrated(stack.mean_of(m), len(m)))),
            num_objectives=len(self.objectives),
            sampler=self.sampler,
            trials=self.trials,
            seed=job.seed,
        )
        trials = [_trial_json(t.number, t.values, t.source) for t in found.trials]
        front = [_front_json(trial, job.ingredients) for trial in found.front]
        rows = {"model": found.best.coefficients}
        return Found("linear", "model", rows, trials, {"front": front})


@dataclass(frozen=True, slots=True)
class GradientSearch:
    """Learned soup: coefficients by gradient on a half of val, chosen on the other half.

    Attributes:
        per: what has coefficients of its own: model, layer or tensor.
        epochs: how many, at most.
        batch_size: examples a step.
        learning_rate: of AdamW.
        sampling: how coefficients of a step come from the free numbers, one of `SAMPLINGS`.
    """

    per: str
    epochs: int
    batch_size: int
    learning_rate: float
    sampling: str = "darts"

    @property
    def study(self) -> dict[str, Any]:
        """What names the study."""
        return self.recipe

    @property
    def recipe(self) -> dict[str, Any]:
        """The search, as it stands in manifests."""
        return {"search": "gradient", "method": "linear", "objectives": ["val"], **asdict(self)}

    def find(self, job: TuningJob, states: Sequence[State], device: str) -> Found:
        """Fit coefficients to the loss on val."""
        from stockpot.scoring.val_gradients import LabelledVal
        from stockpot.scoring.val_scores import ValScorer
        from stockpot.soups.tuning.learned import learn_coefficients
        from stockpot.soups.tuning.mixtures import Mixture
        from stockpot.soups.tuning.samplings import SAMPLINGS

        workload = job.workload.build()
        mixture = Mixture([_moved(state, device) for state in states], self.per)
        val = LabelledVal(workload, device, batch_size=self.batch_size, seed=job.seed)
        learned = learn_coefficients(
            mixture,
            val.batches,
            val.judge,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            sampling=SAMPLINGS[self.sampling](job.seed),
        )
        score = ValScorer(workload, device).val
        trials = _trials_of(learned.epochs, lambda rows: score(mixture.weights(rows)), "uniform")
        details = {
            "inverse_temperature": learned.best.beta,
            "chosen": learned.best.number,
            "folds": [{"number": e.number, **e.scores._asdict()} for e in learned.epochs],
            "front": [],
        }
        return Found("linear", self.per, learned.best.rows, trials, details)


@dataclass(frozen=True, slots=True)
class EntropySearch:
    """AdaMerging: coefficients of task vectors, by the entropy of predictions on val's inputs.

    Attributes:
        per: what has coefficients of its own: model or layer.
        init: every coefficient at the start.
        steps: how many batches.
        batch_size: examples a step.
        learning_rate: of Adam.
        density: share of each task vector's entries that take part, the largest of the model,
            where they have the elected sign (AdaMerging++); None: all of them.
    """

    per: str
    init: float
    steps: int
    batch_size: int
    learning_rate: float
    density: float | None = None

    @property
    def study(self) -> dict[str, Any]:
        """What names the study."""
        return self.recipe

    @property
    def recipe(self) -> dict[str, Any]:
        """The search, as it stands in manifests; it says that it saw inputs it is scored on."""
        head = {"search": "entropy", "method": self._method, "adapts_on": "val"}
        own = asdict(self)
        del own["density"]
        options = {"options": self._elected} if self._elected else {}
        return {**head, "objectives": ["val"], **own, **options}

    @property
    def _method(self) -> str:
        return "elected_sum" if self._elected else "task_arithmetic"

    @property
    def _elected(self) -> dict[str, Any] | None:
        return None if self.density is None else {"density": self.density, "scope": "model"}

    def find(self, job: TuningJob, states: Sequence[State], device: str) -> Found:
        """Lower the entropy; labels are read after the search, for the trials' scores."""
        from stockpot.scoring.val_gradients import UnlabelledVal
        from stockpot.scoring.val_scores import ValScorer
        from stockpot.soups.tuning.adamerging import merge_adaptively
        from stockpot.soups.tuning.mixtures import Mixture
        from stockpot.storage.checkpoints import load_tensors, verify

        workload = job.workload.build()
        base = load_tensors(verify(job.root, job.base.checkpoint))
        moved = [_moved(state, device) for state in states]
        mixture = Mixture(moved, self.per, _moved(base, device), self._elected)
        val = UnlabelledVal(workload, device, batch_size=self.batch_size, seed=job.seed)
        merged = merge_adaptively(
            mixture,
            val.batches,
            val.class_entropy,
            start=self.init,
            learning_rate=self.learning_rate,
            steps=self.steps,
        )
        score = ValScorer(workload, device).val
        start = f"{self.init:g} each"
        trials = _trials_of(merged.passes, lambda rows: score(mixture.weights(rows)), start)
        details = {
            "chosen": merged.best.number,
            "class_entropy": [done.class_entropy for done in merged.passes],
            "is_collapsed": merged.is_collapsed,
            "front": [],
        }
        rows, options = merged.best.rows, self._elected or {}
        return Found(self._method, self.per, rows, trials, details, options)


Search = OptunaSearch | GradientSearch | EntropySearch

SEARCHES: Mapping[str, Callable[..., Search]] = MappingProxyType(
    {"optuna": OptunaSearch, "gradient": GradientSearch, "entropy": EntropySearch}
)
"""The kinds of search by the name that params.yaml uses."""


def _values(objectives: Sequence[Callable[[State], float]], weights: State) -> tuple[float, ...]:
    return tuple(objective(weights) for objective in objectives)


def _warm_starts(
    job: TuningJob, score: Callable[[Sequence[int]], Tensor]
) -> dict[str, list[float]]:
    """Return the uniform, greedy and best single soup as points of the unit box."""
    from stockpot.soups.selection.greedy import select_greedy

    order = rank(job.ingredients, job.metric)
    steps = select_greedy(order, score)
    greedy = {step.ingredient for step in steps if step.accepted}
    positions = range(len(job.ingredients))
    return {
        "uniform": [1.0 for _ in positions],
        "greedy": [float(position in greedy) for position in positions],
        "best single": [float(position == order[0]) for position in positions],
    }


def _moved(state: State, device: str) -> State:
    return {name: tensor.to(device) for name, tensor in state.items()}


def _trials_of(
    states: Sequence[Epoch] | Sequence[Pass], score: Callable[[Rows], float], start: str
) -> list[dict[str, Any]]:
    """Return the states of a search by gradient as trials; the first is called `start`."""
    return [
        _trial_json(state.number, (score(state.rows),), "epoch" if state.number else start)
        for state in states
    ]


def _trial_json(number: int, values: Sequence[float], source: str) -> dict[str, Any]:
    return {"number": number, "values": values, "source": source}


def _front_json(trial: Trial, ingredients: tuple[Model, ...]) -> dict[str, Any]:
    coefficients = zip(ingredients, trial.coefficients, strict=True)
    return {
        "number": trial.number,
        "values": trial.values,
        "coefficients": {model.name: value for model, value in coefficients if value > 0},
    }
