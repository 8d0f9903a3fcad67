from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.cat import cat
from stockpot.merging.methods.task_arithmetic import task_arithmetic

BASE = torch.tensor([[0.5, -0.5], [1.0, 2.0]])


def _gram(*diagonal: float) -> Tensor:
    return torch.diag(torch.tensor(diagonal, dtype=torch.float64)).unsqueeze(0)


def _random(*shape: int, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def _random_grams(size: int, count: int = 2) -> list[Tensor]:
    rows = [each.double() for each in _random(9, size, count=count)]
    return [(each.mT @ each).unsqueeze(0) for each in rows]


def test_cat_of_a_case_computed_by_hand() -> None:
    # On the second model's inputs, the first task vector changes the first output alone.
    models = [BASE + torch.eye(2), BASE]

    merged = cat(models, BASE, [_gram(0, 1), _gram(1, 0)], [1, 1], rank=1, balance=0.5)

    torch.testing.assert_close(merged, BASE + torch.tensor([[0.0, 0.0], [0.0, 1.0]]))


def test_what_counts_more_on_its_own_inputs_is_kept() -> None:
    models = [BASE + torch.eye(2), BASE]

    merged = cat(models, BASE, [_gram(1, 1), _gram(1, 0)], [1, 1], rank=2, balance=2)

    torch.testing.assert_close(merged, models[0])


def test_task_vectors_that_meet_no_inputs_of_others_are_summed() -> None:
    models = [BASE + torch.tensor([[1.0, 0.0]] * 2), BASE + torch.tensor([[0.0, 3.0]] * 2)]

    merged = cat(models, BASE, [_gram(1, 0), _gram(0, 1)], [1, 0.5])

    torch.testing.assert_close(merged, task_arithmetic(models, BASE, [1, 0.5]))


def test_removed_directions_no_longer_change_on_the_other_models_inputs() -> None:
    base, *models = _random(5, 4, count=3)
    grams = _random_grams(4)
    before = (models[0] - base).double()
    values, vectors = torch.linalg.eigh(before @ (grams[1][0] - grams[0][0]) @ before.mT)
    worst = vectors[:, -1]

    merged = cat([models[0], base], base, grams, [1, 1], rank=1, balance=1)

    after = (merged - base).double()
    assert values[-1] > 0
    torch.testing.assert_close(worst @ after, torch.zeros(4).double(), rtol=0, atol=1e-6)
    others = vectors[:, :-1].mT
    torch.testing.assert_close(others @ after, others @ before, rtol=1e-5, atol=1e-6)


def test_without_balance_and_with_all_directions_nothing_is_left() -> None:
    base, *models = _random(3, 4, count=3)

    merged = cat(models, base, _random_grams(4), [1, 1], rank=3, balance=0)

    torch.testing.assert_close(merged, base, rtol=0, atol=1e-5)


def test_a_diagonal_counts_as_that_of_a_matrix_without_other_entries() -> None:
    base, *models = _random(3, 2, count=3)
    diagonals = [torch.tensor([[1.0, 3.0]]).double(), torch.tensor([[2.0, 0.5]]).double()]

    merged = cat(models, base, diagonals, [1, 1], balance=0.3)

    full = [torch.diag_embed(diagonal) for diagonal in diagonals]
    torch.testing.assert_close(merged, cat(models, base, full, [1, 1], balance=0.3))


def test_the_groups_of_a_convolution_are_trimmed_apart() -> None:
    base, *models = _random(4, 1, 2, 2, count=3)  # two groups of two outputs
    first, second = _random_grams(4), _random_grams(4)[::-1]
    grams = [torch.cat(pair) for pair in zip(first, second, strict=True)]

    merged = cat(models, base, grams, [1, 1], rank=1, balance=0.1)

    apart = [
        cat([model[rows] for model in models], base[rows], own, [1, 1], rank=1, balance=0.1)
        for rows, own in ((slice(0, 2), first), (slice(2, 4), second))
    ]
    torch.testing.assert_close(merged, torch.cat(apart))


def test_entries_of_a_norm_are_removed_where_others_disturb_it() -> None:
    base = torch.zeros(3)
    models = [torch.tensor([1.0, 1.0, 2.0]), torch.tensor([0.0, 3.0, 0.0])]
    squares = [torch.tensor([1.0, 0.0, 9.0]).double(), torch.tensor([4.0, 1.0, 1.0]).double()]

    merged = cat(models, base, squares, [1, 1], rank=1, balance=1)

    # First task vector on the second's inputs: 4 - 1, 1 - 0, 4 (1 - 9). The second's on the
    # first's: 0, 9 (0 - 1), 0: nothing to gain.
    torch.testing.assert_close(merged, torch.tensor([0.0, 4.0, 2.0]))


def test_of_a_bias_the_largest_entries_of_the_others_are_removed() -> None:
    base, models = torch.zeros(3), [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, 4.0, 3.0])]

    merged = cat(models, base, [None, None], [1, 1], rank=1)

    torch.testing.assert_close(merged, torch.tensor([1.0, 6.0, 3.0]))


@pytest.mark.parametrize(
    ("options", "rule"),
    [({"rank": 0}, "rank must be at least 1"), ({"balance": -1.0}, "balance must be finite and")],
)
def test_options_outside_their_range_are_refused(options: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=f"cat: {rule}"):
        cat([BASE, BASE], BASE, [None, None], [1, 1], **options)  # type: ignore[arg-type]
