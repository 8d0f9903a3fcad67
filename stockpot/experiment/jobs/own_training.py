"""The similarity of ingredients by the gradients of their own training, as a selection's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import MergingJob

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.experiment.jobs.merges import Merges
    from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
    from stockpot.merging.states import State
    from stockpot.statistics.values import Floats
    from stockpot.storage.checkpoints import Checkpoint


def gradient_similarities(job: MergingJob, merges: Merges) -> Floats:
    """Return the cosines (K, K) between gradients of a job's ingredients at their uniform soup.

    Raises:
        InputError: the training of some is unknown.
    """
    from stockpot.ingredients.finetuning.score_cache import train_scores
    from stockpot.ingredients.own_gradients import OwnGradients, training_of
    from stockpot.storage.checkpoints import load_tensors, verify

    found = [training_of(model.details) for model in job.ingredients]
    unknown = [m.name for m, each in zip(job.ingredients, found, strict=True) if each is None]
    if unknown:
        raise InputError(
            f"soup {job.name!r}: select: gradient_group needs the training data and objectives of "
            f"all ingredients, unknown are those of {unknown}; name the data of imported ones in "
            "their hyperparameters (data: train), or leave them out by `ingredients`"
        )

    def scores(how: Hyperparameters, start: Checkpoint | None) -> Tensor:
        start = start or job.base.checkpoint
        return train_scores(job.root, job.workload, start, how, merges.device)

    def load(checkpoint: Checkpoint) -> State:
        return load_tensors(verify(job.root, checkpoint))

    everyone = range(len(job.ingredients))
    uniform = merges.finished(merges.stack.mean_of(everyone), dict.fromkeys(everyone, 1.0))
    workload, base = job.workload.build(), merges.load(job.base)
    own = OwnGradients(workload, base, load, scores, job.seed, merges.device)
    return own.cosines(
        {name: tensor.cpu() for name, tensor in uniform.items()},
        [training for training in found if training is not None],
    )
