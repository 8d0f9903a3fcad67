"""The intrinsic dimension of fine-tuning: the smallest random subspace that is almost enough.

Li et al. 2018, https://arxiv.org/abs/1804.08838, section 2: the smallest d at which training in a
random subspace of d dimensions reaches 90 % of the score of training all weights. Every score
costs a training run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stockpot.errors import InputError
from stockpot.experiment.jobs.training import TRAINING_MODULES
from stockpot.experiment.plan import Plan
from stockpot.ingredients.finetuning.hyperparameters import TECHNIQUES, Hyperparameters
from stockpot.storage.atomic_files import write_text
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.workloads.spec import WorkloadSpec

SHARE = 0.9
"""The share of the score of full fine-tuning that has to be reached."""

_MODULES = (*TRAINING_MODULES, "stockpot.scoring.val_scores")  # that train and score
_REPLACED = (
    "adapter",
    "subspace",
    "compander",
    "templates",
    "sparsity",
    "layer_decay",
    "start_l2",
    "anchor",
)


@dataclass(frozen=True, slots=True)
class SubspaceRuns:
    """Fine-tuning runs in subspaces of several dimensions, as plain values for a worker process.

    Attributes:
        root: the project root.
        workload: the data; train and val are used.
        base: the checkpoint that all runs start from.
        how: the hyperparameters of the run of all weights.
        threads: torch threads of the worker.
    """

    root: Path
    workload: WorkloadSpec
    base: Checkpoint
    how: Hyperparameters
    threads: int

    def how_in(self, dimension: int, total: int) -> Hyperparameters:
        """The hyperparameters of a run in a subspace of `dimension` of all `total` weights.

        The learning rate is multiplied by sqrt(D / d): columns have length 1, so steps of AdamW are
        then as long in weights as those of the run of all weights.
        """
        if dimension == total:
            return self.how
        rate = self.how.learning_rate * math.sqrt(total / dimension)
        return replace(self.how, subspace=dimension, learning_rate=rate)

    def file(self, how: Hyperparameters) -> Path:
        """The cached result of one run, from which an interrupted search continues."""
        key = content_key(
            hyperparameters=how.described(),
            base=self.base.digest,
            threads=self.threads,
            **self.workload.training_key_parts(),
            val=self.workload.set_digest("val"),
            code=code_key(*_MODULES, *self.workload.modules),
        )
        return self.root / ".stockpot" / "findings" / f"subspace-{key}.json"


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of one run.

    Attributes:
        score: on val; -inf if the run diverged.
        diverged: how it diverged; empty if it did not.
    """

    score: float
    diverged: str = ""


@dataclass(frozen=True, slots=True)
class IntrinsicDimension:
    """The result of a search for the intrinsic dimension.

    Attributes:
        base: val score of the base, the subspace of dimension 0.
        full: val score of fine-tuning all weights.
        target: the score that has to be reached.
        scores: val scores by dimension, of all runs; -inf of one that diverged.
        found: the smallest dimension that reaches the target; None if none below all weights does.
        is_monotone: whether all larger dimensions that were run reach it, and no smaller one.
    """

    base: float
    full: float
    target: float
    scores: Mapping[int, float]
    found: int | None
    is_monotone: bool

    @property
    def diverged(self) -> list[int]:
        """The dimensions whose runs diverged, and so do not reach the target."""
        return [dimension for dimension, score in self.scores.items() if score == -math.inf]


def search(
    score_of: Callable[[int], float], base: float, full: float, most: int, *, of_gain: bool
) -> IntrinsicDimension:
    """Bisect a grid of dimensions, two per octave, for the smallest one that reaches the target.

    Args:
        score_of: returns the val score of a run in a subspace; higher is better, -inf if the run
            diverged.
        base: the score of dimension 0.
        full: the score of fine-tuning all weights.
        most: the largest dimension.
        of_gain: whether the target is base + 0.9 (full - base), which any metric has; otherwise it
            is 0.9 full.

    Raises:
        InputError: the target is not above 0, so that a share of it means nothing.
    """
    if not of_gain and full <= 0:
        raise InputError(
            f"a share of the score needs a metric above 0, got {full:g}; take the share of the gain"
        )
    target = base + SHARE * (full - base) if of_gain else SHARE * full
    grid = sorted({min(most, round(2 ** (half / 2))) for half in range(2 * _octaves(most) + 1)})
    scores: dict[int, float] = {0: base}
    low, high = -1, len(grid)  # the places of the last one below and the first one that reaches it
    if base >= target:
        return IntrinsicDimension(base, full, target, scores, 0, is_monotone=True)
    while high - low > 1:
        middle = (low + high) // 2
        scores[grid[middle]] = score = score_of(grid[middle])
        low, high = (low, middle) if score >= target else (middle, high)
    found = grid[high] if high < len(grid) else None
    for place in (low - 1, high + 1):  # neither is run by a bisection that ends here
        if found is not None and 0 <= place < len(grid) and grid[place] not in scores:
            scores[grid[place]] = score_of(grid[place])
    is_monotone = all(
        (score >= target) == (found is not None and dimension >= found)
        for dimension, score in scores.items()
    )
    return IntrinsicDimension(base, full, target, dict(sorted(scores.items())), found, is_monotone)


def runs_of(plan: Plan, name: str | None) -> tuple[SubspaceRuns, Model]:
    """Return the runs with the hyperparameters of an ingredient, and the base.

    Args:
        plan: base and sweep are done.
        name: of the ingredient; None for the best one on val.

    Raises:
        InputError: there is no such ingredient, or it was not fine-tuned here.
    """
    ingredients = [one for one in plan.ingredients() if "hyperparameters" in one.details]
    by_name = {one.name: one for one in ingredients}
    if not ingredients or (name is not None and name not in by_name):
        raise InputError(
            f"ingredient: must be one that was fine-tuned here, {sorted(by_name)}, got {name!r}"
        )
    best = by_name[name] if name else ingredients[rank(ingredients, plan.metric)[0]]
    how = Hyperparameters.from_point(best.details["hyperparameters"])
    plain = {one: TECHNIQUES[one] for one in _REPLACED}
    base = plan.base()
    runs = SubspaceRuns(
        plan.project.root,
        plan.workload,
        base.checkpoint,
        replace(how, **plain),  # type: ignore[arg-type]  # each of its field's type
        plan.experiment.run.threads,
    )
    return runs, base


def num_weights(runs: SubspaceRuns, device: str) -> int:
    """Return the number of weights that a run of all weights trains; in a worker process."""
    from stockpot.ingredients.finetuning.trained_parts import TrainedParts
    from stockpot.workloads.passes import empty_model

    model = empty_model(runs.workload.build(), device)
    trained = TrainedParts.of(model, runs.how).trained
    return sum(one.numel() for name, one in model.named_parameters() if name in trained)


def val_score(runs: SubspaceRuns, dimension: int, total: int, device: str) -> RunResult:
    """Fine-tune in a subspace and score on val, unless the result is known; in a worker process.

    Args:
        runs: what they have in common.
        dimension: d; D for all weights themselves, without a subspace.
        total: D, the number of trained weights.
        device: where to train.
    """
    how = runs.how_in(dimension, total)
    if (file := runs.file(how)).is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        return RunResult(known.get("score", -math.inf), known.get("diverged", ""))
    from stockpot.ingredients.finetuning.divergence import Diverged
    from stockpot.ingredients.finetuning.loop import fine_tune
    from stockpot.ingredients.finetuning.partial_state import PartialState
    from stockpot.scoring.val_scores import ValScorer
    from stockpot.storage.checkpoints import load_tensors, verify

    workload = runs.workload.build()
    partial = runs.root / ".stockpot" / "partial" / f"{file.stem}.safetensors"
    start = load_tensors(verify(runs.root, runs.base))
    try:
        tuned = fine_tune(
            workload, start, how, split="train", device=device, partial=PartialState(partial)
        )
    except Diverged as error:
        write_text(file, json.dumps({"diverged": str(error)}) + "\n")
        return RunResult(-math.inf, str(error))
    score = ValScorer(workload, device).val(
        {name: tensor.to(device) for name, tensor in tuned.items()}
    )
    write_text(file, json.dumps({"score": score}) + "\n")
    return RunResult(score)


def _octaves(most: int) -> int:
    return math.ceil(math.log2(most))
