"""Metrics of logits (N, C) and classes (N,).

They agree with scikit-learn's where it has them, also for tied scores. They are implemented here
because an evaluation computes each hundreds of times and scikit-learn takes 10 times as long.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stockpot.scoring.metrics.calibration import (
    equal_mass_bins,
    equal_width_bins,
    expected_calibration_error,
)
from stockpot.scoring.metrics.metric import TaskMetric, mean_metric
from stockpot.scoring.metrics.ranking import areas_under_roc, average_precisions
from stockpot.statistics.values import Floats


def is_correct(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1.0 for each example whose largest output is its target, else 0.0; (N,)."""
    return (outputs.argmax(dim=1) == targets).float()


def nll_per_example(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of each target, in nats; (N,), float64."""
    return functional.cross_entropy(outputs.double(), targets, reduction="none")


def brier_per_example(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the squared distance of the probabilities from the target, in [0, 2]; (N,), float64.

    Source: Brier 1950: the sum over classes, which for two classes is twice the binary form.
    """
    gaps = outputs.double().softmax(dim=1) - _one_hot(outputs, targets)
    return gaps.square().sum(dim=1)


def balanced_accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Return the mean recall over classes with examples."""
    table = _confusion(outputs, targets)
    return _mean_share(table.diagonal(), table.sum(dim=1))


def f1_macro(outputs: Tensor, targets: Tensor) -> float:
    """Return the mean F1 over classes that are targets or predictions."""
    table = _confusion(outputs, targets)
    sizes = table.sum(dim=0) + table.sum(dim=1)  # 2 true positives + all mistakes; (C,)
    return _mean_share(2 * table.diagonal(), sizes)


def ap_macro(outputs: Tensor, targets: Tensor) -> float:
    """Return the mean average precision over classes with examples.

    Classes without examples are excluded, not counted as 0.

    Source: AP-Fixed of Dave et al. 2021 (https://arxiv.org/abs/2102.01066), on one score per class
    and example.
    """
    return _mean_of_defined(average_precisions(*_scores(outputs, targets)))


def ap_pooled(outputs: Tensor, targets: Tensor) -> float:
    """Return the average precision of one ranking of all (example, class) pairs.

    Unlike `ap_macro`, it changes if all scores of one class are raised.

    Source: AP-Pool of Dave et al. 2021.
    """
    scores, positives = _scores(outputs, targets)
    return float(average_precisions(scores.reshape(-1, 1), positives.reshape(-1, 1))[0])


def auroc(outputs: Tensor, targets: Tensor) -> float:
    """Return the mean area under the ROC curve, each class against all others.

    Classes of no example or of all examples are excluded.
    """
    return _mean_of_defined(areas_under_roc(*_scores(outputs, targets)))


def ece(outputs: Tensor, targets: Tensor) -> float:
    """Return the expected calibration error over 15 bins of equal width."""
    return expected_calibration_error(outputs, targets, equal_width_bins)


def ece_adaptive(outputs: Tensor, targets: Tensor) -> float:
    """Return the expected calibration error over 15 bins of equally many examples."""
    return expected_calibration_error(outputs, targets, equal_mass_bins)


CLASSIFICATION = (
    mean_metric("accuracy", is_correct, higher_is_better=True, is_fraction=True),
    TaskMetric("balanced_accuracy", True, balanced_accuracy, is_fraction=True),
    TaskMetric("f1_macro", True, f1_macro, is_fraction=True),
    mean_metric("nll", nll_per_example, higher_is_better=False),
    mean_metric("brier", brier_per_example, higher_is_better=False),
    TaskMetric("ece", False, ece, is_fraction=True),
    TaskMetric("ece_adaptive", False, ece_adaptive, is_fraction=True),
    TaskMetric("ap_macro", True, ap_macro, is_fraction=True),
    TaskMetric("ap_pooled", True, ap_pooled, is_fraction=True),
    TaskMetric("auroc", True, auroc, is_fraction=True),
)


def absent_classes(outputs: Tensor, targets: Tensor) -> list[int]:
    """Return the classes without examples."""
    sizes = torch.bincount(targets, minlength=outputs.shape[1])
    return (sizes == 0).nonzero().flatten().tolist()


def _confusion(outputs: Tensor, targets: Tensor) -> Tensor:
    """Count examples by target (rows) and predicted class (columns); (C, C), float64."""
    num_classes = outputs.shape[1]
    pairs = targets * num_classes + outputs.argmax(dim=1)
    counts = torch.bincount(pairs, minlength=num_classes**2)
    return counts.view(num_classes, num_classes).double()


def _mean_share(parts: Tensor, sizes: Tensor) -> float:
    """Return the mean of `parts` divided by `sizes`, (C,) both, over classes that are present."""
    present = sizes > 0
    return float((parts[present] / sizes[present]).mean())


def _one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.one_hot(targets, outputs.shape[1])


def _scores(outputs: Tensor, targets: Tensor) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the probability of each class, and whether it is the target; (N, C) both."""
    scores = outputs.double().softmax(dim=1).numpy()
    return scores, _one_hot(outputs, targets).bool().numpy()


def _mean_of_defined(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
