"""`dare_linear` and `dare_ties`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.methods.dare import dare_linear, dare_ties
from stockpot.merging.methods.task_arithmetic import task_arithmetic
from stockpot.merging.methods.ties import ties

BOTH = pytest.mark.parametrize("dare", [dare_linear, dare_ties])
Dare = Callable[..., Tensor]


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def _seeded(*seeds: int) -> list[Draws]:
    return [Draws(seed) for seed in seeds]


def test_dare_of_a_case_computed_by_hand() -> None:
    base, tensor = torch.ones(1000), torch.full((1000,), 3.0)
    kept = Draws(5).kept(0.25, base) > 0

    merged = dare_linear([tensor], base, [0.5], density=0.25, scale=3.0, draws=_seeded(5))

    assert torch.equal(merged, torch.where(kept, 1.0 + 3.0 * 0.5 * 2.0 / 0.25, 1.0))


def test_dare_with_election_of_a_case_computed_by_hand() -> None:
    base = torch.zeros(1000)
    tensors = [torch.full((1000,), 3.0), torch.full((1000,), -1.0)]
    first, second = (draws.kept(0.5, base) > 0 for draws in _seeded(5, 6))

    merged = dare_ties(tensors, base, [1.0, 1.0], density=0.5, draws=_seeded(5, 6))

    only_second = torch.where(second, -2.0, 0.0)
    assert torch.equal(merged, torch.where(first, 6.0, only_second))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5)], ids=str)
def test_density_1_is_task_arithmetic(shape: tuple[int, ...]) -> None:
    base, *tensors = _random(shape, 3)

    merged = dare_linear(tensors, base, [0.5, 2.0], density=1.0, draws=_seeded(1, 2))

    assert torch.equal(merged, task_arithmetic(tensors, base, [0.5, 2.0]))


@pytest.mark.parametrize("normalize", [False, True])
def test_density_1_with_election_is_ties_without_trimming(normalize: bool) -> None:
    base, *tensors = _random((50,), 4)
    coefficients = [0.5, 2.0, 1.0]

    merged = dare_ties(
        tensors,
        base,
        coefficients,
        density=1.0,
        normalize=normalize,
        draws=_seeded(1, 2, 3),
    )

    expected = ties(tensors, base, coefficients, density=1.0, normalize=normalize)
    assert torch.equal(merged, expected)


def test_the_expectation_over_seeds_is_task_arithmetic() -> None:
    base, *tensors = (tensor.double() for tensor in _random((8,), 3))
    num_seeds, density = 2000, 0.2

    draws = torch.stack(
        [
            dare_linear(
                tensors,
                base,
                [1.0, 0.5],
                density=density,
                draws=_seeded(seed, seed + num_seeds),
            )
            for seed in range(num_seeds)
        ]
    )

    # An entry x of probability p, divided by p, has the variance x^2 (1 - p) / p.
    squares = (tensors[0] - base).square() + (0.5 * (tensors[1] - base)).square()
    allowed = 4 * (squares * (1 - density) / density / num_seeds).sqrt()
    expected = task_arithmetic(tensors, base, [1.0, 0.5])
    assert ((draws.mean(dim=0) - expected).abs() < allowed).all()


@BOTH
@pytest.mark.parametrize("density", [0.05, 0.5, 0.9])
def test_the_share_of_kept_entries_is_the_density(dare: Dare, density: float) -> None:
    size = 20_000

    merged = dare([torch.ones(size)], torch.zeros(size), [1.0], density=density, draws=_seeded(3))

    allowed = 4 * (size * density * (1 - density)) ** 0.5
    assert abs(int(merged.count_nonzero()) - density * size) < allowed


@BOTH
@pytest.mark.parametrize("rescale", ["inverse", "l1", "none"])
def test_kept_entries_are_rescaled_as_told(dare: Dare, rescale: str) -> None:
    kept = Draws(3).kept(0.5, torch.ones(64)) > 0
    factor = {"inverse": 2.0, "l1": 64 / float(kept.sum()), "none": 1.0}[rescale]

    merged = dare([torch.ones(64)], torch.zeros(64), [1.0], rescale=rescale, draws=_seeded(3))

    torch.testing.assert_close(merged, kept * factor)


@BOTH
def test_what_a_model_draws_does_not_depend_on_the_others(dare: Dare) -> None:
    base, tensor, other = _random((100,), 3)

    alone = dare([tensor], base, [1.0], draws=_seeded(1))
    beside_another = dare([other, tensor], base, [0.0, 1.0], draws=_seeded(2, 1))

    assert torch.equal(beside_another, alone)


@BOTH
def test_models_draw_on_their_own(dare: Dare) -> None:
    base, tensor = torch.zeros(100), torch.ones(100)

    merged = dare([tensor, tensor], base, [1.0, 1.0], draws=_seeded(1, 2))

    assert set(merged.tolist()) == {0.0, 2.0, 4.0}


@BOTH
def test_a_tensor_that_no_model_changed_stays_bit_for_bit(dare: Dare) -> None:
    [base] = _random((100,), 1)

    merged = dare([base.clone(), base.clone()], base, [1.0, 0.5], draws=_seeded(1, 2))

    assert torch.equal(merged, base)


def test_normalising_divides_the_coefficients_by_their_sum() -> None:
    base, *tensors = _random((30,), 3)

    merged = dare_linear(tensors, base, [1.0, 3.0], normalize=True, draws=_seeded(1, 2))

    expected = dare_linear(tensors, base, [0.25, 0.75], draws=_seeded(1, 2))
    torch.testing.assert_close(merged, expected)


@BOTH
def test_an_unknown_way_to_rescale_is_refused(dare: Dare) -> None:
    rule = r": rescale must be one of \['inverse', 'l1', 'none'\], got 'l2'"

    with pytest.raises(ValueError, match=f"^{dare.__name__}{rule}$"):
        dare([torch.ones(3)], torch.zeros(3), [1.0], rescale="l2", draws=_seeded(1))


@BOTH
@pytest.mark.parametrize("density", [-0.1, 1.5])
def test_a_density_that_is_no_share_is_refused(dare: Dare, density: float) -> None:
    with pytest.raises(ValueError, match=rf"^{dare.__name__}: density must be in \[0, 1\], got"):
        dare([torch.ones(3)], torch.zeros(3), [1.0], density=density, draws=_seeded(1))
