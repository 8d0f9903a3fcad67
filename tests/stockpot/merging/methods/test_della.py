"""`della_linear` and `della`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.methods.dare import dare_linear, dare_ties
from stockpot.merging.methods.della import della, della_linear
from stockpot.merging.methods.task_arithmetic import task_arithmetic

BOTH = pytest.mark.parametrize("method", [della_linear, della])
Della = Callable[..., Tensor]


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def _seeded(*seeds: int) -> list[Draws]:
    return [Draws(seed) for seed in seeds]


@pytest.mark.parametrize("shape", [(), (1,), (4, 1), (3, 50)], ids=str)
def test_without_epsilon_it_is_dare(shape: tuple[int, ...]) -> None:
    base, *tensors = _random(shape, 3)
    coefficients = [0.5, 2.0]

    merged = della_linear(tensors, base, coefficients, epsilon=0.0, draws=_seeded(1, 2))
    elected = della(tensors, base, coefficients, epsilon=0.0, draws=_seeded(1, 2))

    of_dare = dare_linear(tensors, base, coefficients, draws=_seeded(1, 2))
    of_ties = dare_ties(tensors, base, coefficients, normalize=True, draws=_seeded(1, 2))
    torch.testing.assert_close(merged, of_dare)
    torch.testing.assert_close(elected, of_ties)


def test_della_of_a_case_computed_by_hand() -> None:
    base, rows = torch.zeros(500, 3), torch.tensor([2.0, -6.0, 4.0]).expand(500, 3)
    probabilities = torch.tensor([0.25, 0.75, 0.5])
    first, second = (draws.kept(probabilities.expand(500, 3), rows) > 0 for draws in _seeded(5, 6))

    merged = della([rows, rows], base, [1.0, 1.0], epsilon=0.25, scale=0.5, draws=_seeded(5, 6))

    kept = 0.5 * rows / probabilities
    assert torch.equal(merged, kept.where(first | second, 0))


def test_the_expectation_over_seeds_is_task_arithmetic() -> None:
    base, tensor = (tensor.double() for tensor in _random((2, 4), 2))
    num_seeds = 2000

    draws = torch.stack(
        [della_linear([tensor], base, [1.0], draws=_seeded(seed)) for seed in range(num_seeds)]
    )

    # The variance is x^2 (1 - p) / p, and p at least 0.35.
    allowed = 4 * (tensor - base).abs() * (0.65 / 0.35 / num_seeds) ** 0.5
    expected = task_arithmetic([tensor], base, [1.0])
    assert ((draws.mean(dim=0) - expected).abs() < allowed).all()


@BOTH
@pytest.mark.parametrize(("density", "epsilon"), [(0.5, 0.15), (0.2, 0.19), (0.9, 0.05)])
def test_the_mean_share_of_kept_entries_is_the_density(
    method: Della, density: float, epsilon: float
) -> None:
    size = 20_000
    tensor = torch.arange(1.0, size + 1)

    merged = method(
        [tensor],
        torch.zeros(size),
        [1.0],
        density=density,
        epsilon=epsilon,
        draws=_seeded(3),
    )

    allowed = 4 * (size * density * (1 - density)) ** 0.5
    assert abs(int(merged.count_nonzero()) - density * size) < allowed


@BOTH
def test_a_larger_entry_of_a_row_is_kept_more_often(method: Della) -> None:
    rows = torch.tensor([-2.0, 1.0, -4.0, 3.0]).expand(4000, 4)

    merged = method([rows], torch.zeros(4000, 4), [1.0], draws=_seeded(1))

    shares = (merged != 0).double().mean(dim=0)
    expected = torch.tensor([0.45, 0.35, 0.65, 0.55], dtype=torch.float64)
    torch.testing.assert_close(shares, expected, rtol=0, atol=4 * 0.5 / 4000**0.5)


@BOTH
@pytest.mark.parametrize("rescale", ["l1", "none"])
def test_other_ways_to_rescale_keep_ratios_or_values(method: Della, rescale: str) -> None:
    tensor = torch.arange(1.0, 65.0)

    merged = method([tensor], torch.zeros(64), [1.0], rescale=rescale, draws=_seeded(3))

    kept = merged != 0
    factor = {"l1": tensor.sum() / tensor[kept].sum(), "none": torch.tensor(1.0)}[rescale]
    assert 0 < int(kept.sum()) < 64
    torch.testing.assert_close(merged[kept], tensor[kept] * factor)


@BOTH
def test_what_a_model_draws_does_not_depend_on_the_others(method: Della) -> None:
    base, tensor, other = _random((10, 10), 3)

    alone = method([tensor], base, [1.0], draws=_seeded(1))
    beside_another = method([other, tensor], base, [0.0, 1.0], draws=_seeded(2, 1))

    assert torch.equal(beside_another, alone)


@BOTH
def test_a_tensor_that_no_model_changed_stays_bit_for_bit(method: Della) -> None:
    [base] = _random((10, 10), 1)

    merged = method([base.clone(), base.clone()], base, [1.0, 0.5], draws=_seeded(1, 2))

    assert torch.equal(merged, base)


@BOTH
@pytest.mark.parametrize(
    ("density", "epsilon", "option"),
    [(1.1, 0.0, "density"), (-0.1, 0.0, "density"), (0.9, 0.1, "epsilon"), (0.5, 0.5, "epsilon")],
)
def test_probabilities_outside_0_and_1_are_refused(
    method: Della, density: float, epsilon: float, option: str
) -> None:
    with pytest.raises(ValueError, match=f"^{method.__name__}: {option} must be in "):
        method(
            [torch.ones(3)],
            torch.zeros(3),
            [1.0],
            density=density,
            epsilon=epsilon,
            draws=_seeded(1),
        )
