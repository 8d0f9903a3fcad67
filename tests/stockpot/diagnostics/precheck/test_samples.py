from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor
from torch.utils.data import TensorDataset

from stockpot.diagnostics.precheck.samples import check_samples, largest_difference
from stockpot.workloads.digits import Digits

DRAWS = 500


def _gaussians(generator: Generator) -> tuple[Tensor, Tensor]:
    return torch.randn(60, 6, generator=generator), torch.randn(40, 6, generator=generator)


def _rare(generator: Generator) -> tuple[Tensor, Tensor]:
    """Features that are 0 but for few examples, where a normal band would be wrong."""
    drawn = (torch.rand(100, 6, generator=generator) < 0.03).float()
    return drawn[:60], drawn[60:]


@pytest.mark.parametrize("draw", [_gaussians, _rare])
def test_samples_of_one_distribution_are_refused_as_rarely_as_was_asked_for(draw) -> None:
    generator, delta = Generator().manual_seed(0), 0.05

    outcomes = [largest_difference(*draw(generator), delta, generator)[:2] for _ in range(DRAWS)]

    alarms = sum(value > limit for value, limit in outcomes) / DRAWS
    assert alarms <= delta + 3 * (delta * (1 - delta) / DRAWS) ** 0.5


def test_a_mean_shifted_by_half_a_deviation_is_found() -> None:
    generator, found = Generator().manual_seed(0), 0

    for _ in range(40):
        first, second = (torch.randn(200, 6, generator=generator) for _ in range(2))
        second[:, 4] += 0.5
        value, limit, worst = largest_difference(first, second, 0.01, generator)
        found += value > limit and worst == 4

    assert found / 40 > 0.95


def test_the_largest_difference_is_in_standard_deviations_of_both_samples() -> None:
    first, second = torch.zeros(4, 2), torch.tensor([[0.0, 1.0]]).repeat(4, 1)

    value, _, worst = largest_difference(first, second, 0.5, Generator().manual_seed(0))

    assert (value, worst) == (pytest.approx(2.0), 1)  # half of all are 0, half 1: deviation 0.5


def test_the_splits_of_the_digits_are_alike() -> None:
    digits = Digits(0, [], [])

    check = check_samples(
        digits.dataset("train"),
        digits.dataset("val"),
        digits.task,
        0.01,
        Generator().manual_seed(0),
    )

    assert check.passed
    assert check.ingredient is None


def test_a_val_without_one_of_the_classes_is_refused_and_the_class_named() -> None:
    digits = Digits(0, [], [])
    images, labels = digits.dataset("val").tensors
    kept = labels != 3

    check = check_samples(
        digits.dataset("train"),
        TensorDataset(torch.zeros_like(images[kept]), labels[kept]),
        digits.task,
        0.01,
        Generator().manual_seed(0),
    )

    assert not check.passed
    only_labels = check_samples(
        TensorDataset(labels.view(-1, 1), labels),
        TensorDataset(labels[kept].view(-1, 1), labels[kept]),
        digits.task,
        0.01,
        Generator().manual_seed(0),
    )
    assert "the share of class 3 differs most" in only_labels.detail


def test_token_numbers_are_not_compared() -> None:
    tokens = TensorDataset(torch.arange(12).view(4, 3), torch.zeros(4, 3))

    check = check_samples(tokens, tokens, "language_model", 0.01, Generator().manual_seed(0))

    assert (check.passed, check.detail) == (True, "nothing to compare")


@pytest.mark.parametrize("task", ["classification", "language_model"])
def test_texts_of_splits_may_be_padded_to_different_lengths(task) -> None:
    short, long = (torch.ones(12, size, dtype=torch.long) for size in (5, 7))
    classes = torch.arange(12) % 2
    train, val = (
        TensorDataset(tokens, tokens, classes if task == "classification" else tokens)
        for tokens in (short, long)
    )

    check = check_samples(train, val, task, 0.01, Generator().manual_seed(0))

    assert check.passed
