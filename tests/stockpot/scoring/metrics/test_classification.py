"""Classification metrics against scikit-learn, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import Tensor

from stockpot.scoring.metrics import TASK_METRICS
from stockpot.scoring.metrics.classification import (
    absent_classes,
    ap_macro,
    ap_pooled,
    auroc,
    balanced_accuracy,
    brier_per_example,
    f1_macro,
    is_correct,
    nll_per_example,
)

METRICS = TASK_METRICS["classification"]


def _drawn(
    seed: int, size: int = 200, classes: int = 4, *, tied: bool = False
) -> tuple[Tensor, Tensor]:
    """Draw logits that know something of the targets; tied ones are whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (size,), generator=generator)
    logits = torch.randn(size, classes, generator=generator)
    logits[torch.arange(size), targets] += 1
    return logits.round() if tied else logits, targets


def _one_hot(targets: Tensor, classes: int) -> np.ndarray:
    return torch.nn.functional.one_hot(targets, classes).numpy()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed: int, tied: bool) -> None:
    logits, targets = _drawn(seed, tied=tied)
    shares, predicted = logits.double().softmax(dim=1).numpy(), logits.argmax(dim=1)
    one_hot = _one_hot(targets, 4)

    expected = {
        "accuracy": sk.accuracy_score(targets, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted),
        "f1_macro": sk.f1_score(targets, predicted, average="macro"),
        "nll": sk.log_loss(targets, shares),
        "brier": ((shares - one_hot) ** 2).sum(axis=1).mean(),
        "ap_macro": sk.average_precision_score(one_hot, shares, average="macro"),
        "ap_pooled": sk.average_precision_score(one_hot, shares, average="micro"),
        "auroc": sk.roc_auc_score(targets, shares, multi_class="ovr", average="macro"),
    }
    ours = {metric.name: metric.value(logits, targets) for metric in METRICS}
    assert {name: ours[name] for name in expected} == pytest.approx(expected, rel=1e-9)


@given(
    targets=st.lists(st.integers(0, 2), min_size=2, max_size=30),
    scores=st.data(),
)
def test_metrics_agree_with_scikit_learn_on_any_small_set(
    targets: list[int], scores: st.DataObject
) -> None:
    size = len(targets)
    drawn = scores.draw(st.lists(st.integers(-2, 2), min_size=3 * size, max_size=3 * size))
    logits, classes = torch.tensor(drawn).float().view(size, 3), torch.tensor(targets)
    shares, predicted = logits.double().softmax(dim=1).numpy(), logits.argmax(dim=1).numpy()
    present = sorted(set(targets))
    one_hot = _one_hot(classes, 3)

    assert balanced_accuracy(logits, classes) == pytest.approx(
        sk.recall_score(targets, predicted, average="macro", labels=present, zero_division=0)
    )
    assert f1_macro(logits, classes) == pytest.approx(
        sk.f1_score(targets, predicted, average="macro", zero_division=0)
    )
    assert ap_macro(logits, classes) == pytest.approx(
        np.mean([sk.average_precision_score(one_hot[:, c], shares[:, c]) for c in present])
    )
    assert ap_pooled(logits, classes) == pytest.approx(
        sk.average_precision_score(one_hot.ravel(), shares.ravel())
    )
    if len(present) > 1:
        areas = [sk.roc_auc_score(one_hot[:, c], shares[:, c]) for c in present]
        assert auroc(logits, classes) == pytest.approx(np.mean(areas))
    else:
        assert math.isnan(auroc(logits, classes))


def test_perfect_scores() -> None:
    targets = torch.tensor([0, 1, 2, 2, 1])
    logits = 100.0 * torch.nn.functional.one_hot(targets, 3).float()

    values = {metric.name: metric.value(logits, targets) for metric in METRICS}

    best = {metric.name: float(metric.higher_is_better) for metric in METRICS}
    assert values == pytest.approx(best, abs=1e-12)


def test_constant_scores_have_the_precision_of_chance() -> None:
    targets = torch.tensor([0, 0, 0, 1])
    logits = torch.zeros(4, 2)

    assert ap_macro(logits, targets) == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert ap_pooled(logits, targets) == pytest.approx(1 / 2)
    assert auroc(logits, targets) == pytest.approx(1 / 2)


@given(seed=st.integers(0, 50))
def test_the_order_of_examples_does_not_matter(seed: int) -> None:
    logits, targets = _drawn(seed, 40, tied=True)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))

    moved = {metric.name: metric.value(logits[order], targets[order]) for metric in METRICS}

    assert moved == pytest.approx({m.name: m.value(logits, targets) for m in METRICS}, abs=1e-12)


def test_scaling_one_class_changes_the_pooled_ranking_but_none_of_a_class() -> None:
    logits, targets = _drawn(0, 400, 3)
    shares = logits.double().softmax(dim=1)
    one_hot = torch.nn.functional.one_hot(targets, 3).bool().numpy()
    from stockpot.scoring.metrics.ranking import average_precisions

    def macro_and_pooled(scores: Tensor) -> tuple[float, float]:
        pooled = average_precisions(scores.numpy().reshape(-1, 1), one_hot.reshape(-1, 1))
        return float(average_precisions(scores.numpy(), one_hot).mean()), float(pooled[0])

    rescaled = shares.clone()
    rescaled[:, 0] = shares[:, 0] ** 5

    macro, pooled = macro_and_pooled(shares)
    assert (macro, pooled) == pytest.approx((ap_macro(logits, targets), ap_pooled(logits, targets)))
    assert macro_and_pooled(rescaled)[0] == macro
    assert macro_and_pooled(rescaled)[1] < pooled - 0.01


def test_a_class_without_examples_is_left_out_and_named() -> None:
    targets = torch.tensor([0, 2, 2, 0])
    logits = 10.0 * torch.nn.functional.one_hot(targets, 4).float()

    assert absent_classes(logits, targets) == [1, 3]
    assert ap_macro(logits, targets) == 1
    assert auroc(logits, targets) == 1
    assert balanced_accuracy(logits, targets) == 1


def test_values_of_examples_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # (1/4, 3/4) and (1/2, 1/2)
    targets = torch.tensor([0, 1])

    assert is_correct(logits, targets).tolist() == [0.0, 0.0]  # of equal outputs the first counts
    assert nll_per_example(logits, targets).tolist() == pytest.approx([math.log(4), math.log(2)])
    assert brier_per_example(logits, targets).tolist() == pytest.approx([2 * 0.75**2, 2 * 0.5**2])


def test_a_mean_metric_is_the_mean_of_its_examples() -> None:
    logits, targets = _drawn(0)

    means = {m.name: m.per_example(logits, targets).mean() for m in METRICS if m.per_example}

    assert means.keys() == {"accuracy", "nll", "brier"}
    for name, mean in means.items():
        [metric] = [metric for metric in METRICS if metric.name == name]
        assert metric.value(logits, targets) == pytest.approx(mean.item())
