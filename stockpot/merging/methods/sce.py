"""SCE, select, calculate, erase: the merging of FuseChat (https://arxiv.org/abs/2408.07990)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.method import method
from stockpot.merging.methods.magnitude_cuts import Cut, find_cuts, keep_largest, num_kept
from stockpot.merging.runs import Run, Runs
from stockpot.merging.search_ranges import SearchRange


@dataclass(frozen=True, slots=True)
class Selection:
    """Measurements of whole tensors.

    Attributes:
        cut: the lower bound of the variances that are selected; None if all entries are.
        weights: of the models, M, up to a common factor; the largest is 1. All 0 if no selected
            entry differs from the base.
    """

    cut: Cut | None
    weights: Sequence[float]


def measure_selection(runs: Runs, _draws: Sequence[Draws], options: Mapping[str, Any]) -> Selection:
    """Find the entries of largest variance, then the sums of squares of the models there."""
    share = options["select_topk"]
    cut = None if share == 1 else _find_cut(runs, share)

    def squares(run: Run) -> list[float]:
        kept = [vector.reshape(-1) for vector in run.vectors]
        if (selected := _selected(run.vectors, cut, run.start)) is not None:
            places = torch.from_numpy(np.flatnonzero(selected.cpu().numpy())).to(selected.device)
            kept = [vector[places] for vector in kept]
        return [float(torch.linalg.vector_norm(v, dtype=torch.float64)) ** 2 for v in kept]

    sums = [sum(of_model) for of_model in zip(*runs.map(squares), strict=True)]
    largest = max(sums, default=0.0)
    return Selection(cut, [one / largest if largest else 0.0 for one in sums])


@method("sce", is_elementwise=True, measure=measure_selection)
def sce(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    select_topk: Annotated[float, SearchRange(0.1, 1.0)] = 1.0,
    measured: Selection | None = None,
    start: int = 0,
) -> Tensor:
    """Average task vectors by their energy, in entries where models differ and agree in sign.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        select_topk: fraction of the entries with variance over models that is selected, those of
            largest variance, in [0, 1]; 1 selects all entries, also those without variance, and 0
            none, which gives the base.
        measured: the selection in the whole tensors, where the tensors are parts of larger ones.
        start: position of the part's first entry.

    Returns:
        The merged tensor; shape and dtype of the inputs. With `select_topk` below 1, equal
        models, or a single one, have no variance and give the base.

    Raises:
        ValueError: `select_topk` is out of range.

    Source: Wan et al. 2024. At least one of the entries with variance is selected,
    otherwise small tensors would be reset to the base. A model's weight is its fraction of the sum
    of squares; mergekit uses equal weights where the total is below 1e-6, also for short task
    vectors. A sum of 0 elects no sign, see `ties`.
    """
    if not 0 <= select_topk <= 1:
        raise ValueError(f"sce: select_topk must be in [0, 1], got {select_topk}")
    options = {"select_topk": select_topk}
    found = measured or measure_selection(Runs.of(tensors, base), [], options)
    if not any(found.weights):
        return base.clone()
    task_vectors = [tensor - base for tensor in tensors]
    elected = task_vectors[0].clone()
    for task_vector in task_vectors[1:]:
        elected += task_vector
    elected.sign_()
    selected = _selected(task_vectors, found.cut, start)
    if selected is not None:
        elected *= selected

    merged, total = torch.zeros_like(base), torch.zeros_like(base)
    for task_vector, weight in zip(task_vectors, found.weights, strict=True):
        agreeing = task_vector.mul_(elected).clamp_(min=0)  # magnitudes; 0 for the others
        merged.add_(agreeing * weight)
        total.add_(agreeing.sign_(), alpha=weight)
    return base + merged.mul_(elected).div_(total.add_(total == 0))


def _find_cut(runs: Runs, share: float) -> Cut:
    """Return the lower bound of the fraction of varying entries with the largest variance."""

    def variances(first: int, last: int, step: int = 1) -> Run:
        return Run(first, [_variance(runs.read(first, last, step).vectors)], None)

    of_variance = replace(runs, num_models=1, read=variances)
    ((cut,),) = find_cuts(of_variance, lambda varying: [[num_kept(varying[0], share)]])
    return cut


def _selected(task_vectors: Sequence[Tensor], cut: Cut | None, start: int) -> Tensor | None:
    """Return 1 for each selected entry and 0 for the others; None if all are selected."""
    return None if cut is None else keep_largest(_variance(task_vectors), cut, start).sign_()


def _variance(task_vectors: Sequence[Tensor]) -> Tensor:
    """Return the variance of each entry over the models, up to the factor M."""
    mean, variance = task_vectors[0].clone(), torch.zeros_like(task_vectors[0])
    other = torch.empty_like(mean)  # one for all models: new memory takes longer
    for count, task_vector in enumerate(task_vectors[1:], start=2):
        step = task_vector - mean
        mean += torch.div(step, count, out=other)
        variance += step.mul_(torch.sub(task_vector, mean, out=other))
        # Welford's algorithm: exactly 0 for equal models
    return variance.clamp_(min=0)
