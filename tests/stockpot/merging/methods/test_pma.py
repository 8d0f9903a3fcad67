from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.methods.pma import pma_ema, pma_wma
from stockpot.merging.recipe import Recipe

UNITS = list(torch.eye(4, dtype=torch.float64))  # a merge has the coefficients as entries


def _coefficients(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_weighted_average_has_coefficients_that_grow_linearly() -> None:
    torch.testing.assert_close(pma_wma(UNITS), _coefficients(0.1, 0.2, 0.3, 0.4))


def test_the_exponential_average_starts_from_the_first_checkpoint() -> None:
    merged = pma_ema(UNITS, alpha=0.2)

    torch.testing.assert_close(merged, _coefficients(0.512, 0.128, 0.16, 0.2))


def test_the_exponential_average_is_the_recursion_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = list(torch.randn(6, 3, 5, generator=generator, dtype=torch.float64))
    average = tensors[0]
    for tensor in tensors[1:]:
        average = 0.3 * tensor + 0.7 * average

    torch.testing.assert_close(pma_ema(tensors, alpha=0.3), average)


def test_the_exponential_average_with_alpha_one_is_the_latest_checkpoint() -> None:
    assert torch.equal(pma_ema(UNITS, alpha=1), UNITS[-1])


@pytest.mark.parametrize(
    ("merge", "decay"),
    [
        (pma_wma, lambda step: 1 - step * (step + 1) / 20),
        (
            lambda tensors: pma_ema(tensors, alpha=1 - 0.1**0.25),
            lambda step: 1 - 0.1 ** (1 - step / 4),
        ),
    ],
    ids=["wma", "ema"],
)
def test_an_average_is_the_first_checkpoint_plus_decayed_updates(
    merge: Callable[[Sequence[Tensor]], Tensor], decay: Callable[[int], float]
) -> None:
    generator = torch.Generator().manual_seed(1)
    run = list(torch.randn(4, 6, generator=generator, dtype=torch.float64))
    updates = [after - before for before, after in pairwise(run)]

    decayed = [decay(step) * update for step, update in enumerate(updates, start=1)]

    torch.testing.assert_close(merge(run), run[0] + torch.stack(decayed).sum(dim=0))


@pytest.mark.parametrize("alpha", [0, 1.5])
def test_a_share_out_of_its_range_is_refused_before_anything_is_read(alpha: float) -> None:
    with pytest.raises(InputError, match=rf"pma_ema: alpha must be in \(0, 1\], got {alpha}"):
        Recipe("pma_ema", (1.0, 1.0), {"alpha": alpha}).check(has_base=False)
