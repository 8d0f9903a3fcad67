"""Training on the hardest examples of the base (Paul et al. 2021, "Data Diet").

https://arxiv.org/abs/2107.07075. The authors average scores over ten models early in training; we
use one model, the base, from which all ingredients start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import Dataset

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Difficulty, Hyperparameters
from stockpot.ingredients.finetuning.starting_model import initial_model
from stockpot.workloads.batches import num_examples, subset
from stockpot.workloads.example_gradients import ExampleGradients
from stockpot.workloads.passes import Examples
from stockpot.workloads.protocol import Batch, Workload


def el2n(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the distance of each example's probabilities from its target; (N,), in [0, sqrt(2)].

    |softmax(z) - onehot(y)|, definition 3: the norm of the loss's gradient at the logits.

    Args:
        outputs: logits (N, C).
        targets: classes (N,).
    """
    probabilities = outputs.float().softmax(dim=-1)
    distances: Tensor = (probabilities - one_hot(targets, outputs.shape[-1])).norm(dim=-1)
    return distances


def grand(workload: Workload, model: nn.Module, batch: Batch) -> Tensor:
    """Return the norm of each example's gradient of all parameters; (N,). Definition 1.

    Args:
        workload: has the loss.
        model: in eval mode, where examples do not interact.
        batch: N examples.
    """
    names = [name for name, one in model.named_parameters() if one.requires_grad]
    gradients = ExampleGradients(workload, model, names)
    norms = [
        torch.stack([slope.flatten(1).norm(dim=1) for slope in slopes.values()]).norm(dim=0)
        for _, slopes in gradients.parts(batch, workload.loss)
    ]
    return torch.cat(norms)


def difficulty_scores(
    workload: Workload,
    weights: Mapping[str, Tensor] | None,
    how: Hyperparameters,
    *,
    split: str,
    device: str,
) -> Tensor:
    """Score each example of a split by a model in eval mode, without augmentation.

    Args:
        workload: has the split and the loss.
        weights: of the model; None draws them as a run does.
        how: has the kind of score, and the seed of drawn weights.
        split: name of the split.
        device: where to compute.

    Returns:
        Scores (N,), float32, on the CPU; higher is harder.

    Raises:
        InputError: the score is EL2N and the workload is no classification.
    """
    if how.difficulty == "el2n" and workload.task != "classification":
        raise InputError(
            "difficulty: el2n needs a workload whose task is classification, "
            f"got {workload.task!r}; take grand"
        )
    model = initial_model(workload, weights, how, device).eval()
    examples = Examples(workload, workload.dataset(split), device)
    scores = examples.map(lambda batch: _scores(workload, model, batch, how.difficulty))
    return scores.float().cpu()


def hardest(scores: Tensor, kept: float, dropped: float) -> Tensor:
    """Select the hardest examples, except those that are too hard.

    Args:
        scores: (N,); among equal scores, earlier examples count as harder.
        kept: share of the examples to keep, in (0, 1], rounded; at least one is kept.
        dropped: share of the examples, harder still, to leave out as probably mislabelled.

    Returns:
        Their indices, in ascending order.

    Raises:
        InputError: the shares add up to more than 1.
    """
    first, count = round(dropped * len(scores)), max(1, round(kept * len(scores)))
    if first + count > len(scores):
        raise InputError(
            f"kept_data: must be at most 1 - dropped_data, got {kept} with dropped_data {dropped}"
        )
    order = scores.argsort(descending=True, stable=True)
    return order[first : first + count].sort().values


def pruned(data: Dataset[Any], scores: Tensor, how: Hyperparameters) -> Dataset[Any]:
    """Return the part of a split that a run trains on.

    Raises:
        InputError: the number of scores is not that of the examples.
    """
    if len(scores) != num_examples(data):
        raise InputError(
            f"scores: must be one per example, got {len(scores)} for {num_examples(data)}"
        )
    return subset(data, hardest(scores, how.kept_data, how.dropped_data))


def _scores(workload: Workload, model: nn.Module, batch: Batch, difficulty: Difficulty) -> Tensor:
    if difficulty == "grand":
        return grand(workload, model, batch)
    with torch.no_grad():
        return el2n(workload.forward(model, batch), batch[-1])
