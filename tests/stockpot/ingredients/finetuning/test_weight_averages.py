from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from stockpot.ingredients.finetuning.weight_averages import (
    ExponentialAverage,
    LatestWeightAverage,
    StochasticWeightAverage,
)
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe

State = dict[str, Tensor]
Average = ExponentialAverage | LatestWeightAverage | StochasticWeightAverage


def _trajectory(length: int, dtype: torch.dtype = torch.float32) -> list[State]:
    generator = torch.Generator().manual_seed(1)
    return [
        {"weight": torch.randn(5, 7, generator=generator).to(dtype), "count": torch.tensor(step)}
        for step in range(length)
    ]


def _numbers(*values: float) -> list[State]:
    return [{"weight": torch.tensor([value], dtype=torch.float64)} for value in values]


def _averaged(average: Average, trajectory: list[State]) -> State:
    for weights in trajectory:
        average.update(weights)
    return average.average()


def _uniform(states: list[State]) -> Tensor:
    weights = [{"weight": state["weight"]} for state in states]
    return merge_states(weights, Recipe("linear", (1.0,) * len(states)))["weight"]


def test_ema_without_momentum_is_the_latest_and_with_all_of_it_the_first() -> None:
    trajectory = _trajectory(6)

    latest, first = (_averaged(ExponentialAverage(m), trajectory) for m in (0.0, 1.0))

    assert torch.equal(latest["weight"], trajectory[-1]["weight"])
    assert torch.equal(first["weight"], trajectory[0]["weight"])


def test_ema_counts_older_weights_less() -> None:
    average = _averaged(ExponentialAverage(0.5), _numbers(8.0, 4.0, 2.0))

    assert average["weight"].item() == 0.5 * (0.5 * 8 + 0.5 * 4) + 0.5 * 2


def test_ema_with_warmup_forgets_the_first_weights_sooner() -> None:
    average = _averaged(ExponentialAverage(0.999, warmup=True), _numbers(0.0, 1.0, 1.0))

    first, second = 2 / 11, 3 / 12
    assert average["weight"].item() == pytest.approx(1 - first * second)


def test_swa_is_the_uniform_soup_of_its_samples() -> None:
    samples = _trajectory(12)

    average = _averaged(StochasticWeightAverage(), samples)

    torch.testing.assert_close(average["weight"], _uniform(samples), rtol=1e-6, atol=1e-6)


def test_lawa_of_one_is_the_latest_and_of_more_their_uniform_soup() -> None:
    trajectory = _trajectory(9)

    one, four = (_averaged(LatestWeightAverage(k), trajectory) for k in (1, 4))

    assert torch.equal(one["weight"], trajectory[-1]["weight"])
    assert torch.equal(four["weight"], _uniform(trajectory[-4:]))


def test_fewer_checkpoints_than_lawa_holds_are_all_averaged() -> None:
    average = _averaged(LatestWeightAverage(6), _numbers(1.0, 2.0))

    assert average["weight"].item() == 1.5


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0])
def test_integer_buffers_are_the_latest(momentum: float) -> None:
    trajectory = _trajectory(6)
    averages = [
        _averaged(ExponentialAverage(momentum), trajectory),
        _averaged(LatestWeightAverage(3), trajectory),
        _averaged(StochasticWeightAverage(), trajectory),
    ]

    assert [average["count"].item() for average in averages] == [5, 5, 5]
    assert {average["count"].dtype for average in averages} == {torch.int64}


def test_half_precision_is_summed_in_float32_and_rounded_once() -> None:
    trajectory = _trajectory(50, torch.bfloat16)
    wide = [{name: t.float() for name, t in weights.items()} for weights in trajectory]

    half, full = (_averaged(ExponentialAverage(0.9), each) for each in (trajectory, wide))

    assert half["weight"].dtype == torch.bfloat16
    assert torch.equal(half["weight"], full["weight"].bfloat16())


def test_an_average_does_not_share_memory_with_the_training() -> None:
    weights = _trajectory(1)[0]
    averages = (ExponentialAverage(), LatestWeightAverage())
    before = [_averaged(average, [weights])["weight"].clone() for average in averages]

    weights["weight"].zero_()
    for average in averages:
        average.average()["weight"].zero_()

    after = [average.average()["weight"] for average in averages]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "average", [ExponentialAverage(), LatestWeightAverage(), StochasticWeightAverage()]
)
def test_averages_without_weights_are_refused(average: Average) -> None:
    with pytest.raises(ValueError, match="needs weights to average, got none"):
        average.average()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ExponentialAverage(1.1), "EMA: momentum must be in [0, 1], got 1.1"),
        (lambda: LatestWeightAverage(0), "LAWA: num_checkpoints must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused(make: type, expected: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared whole)
        make()

    assert str(caught.value) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "make",
    [
        partial(ExponentialAverage, 0.9, warmup=True),
        partial(LatestWeightAverage, 3),
        StochasticWeightAverage,
    ],
)
@pytest.mark.parametrize("taken", [0, 1, 4])
def test_an_average_is_restored_from_its_state(
    make: Callable[[], Average], dtype: torch.dtype, taken: int
) -> None:
    trajectory = _trajectory(6, dtype)
    first, second = make(), make()
    for weights in trajectory[:taken]:
        first.update(weights)

    second.load(first.state_dict(), trajectory[0])

    expected, found = (_averaged(each, trajectory[taken:]) for each in (first, second))
    assert torch.equal(found["weight"], expected["weight"])
    assert found["weight"].dtype == dtype
