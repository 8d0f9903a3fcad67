"""Learning rates along a run."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.schedules import learning_rate_at


def _rates(total: int, *, warmup: float = 0.0, **how: float | str) -> list[float]:
    point = {"learning_rate": 1.0, "weight_decay": 0, "epochs": 1, "batch_size": 1, "seed": 0}
    point |= {"label_smoothing": 0, "mixup": 0, "augmentation": 0}
    hyperparameters = Hyperparameters.from_point(point | {"warmup": warmup} | how)
    return [learning_rate_at(step, total, hyperparameters) for step in range(total)]


def _torch_rates(make: type[LRScheduler], total: int, **options: float) -> list[float]:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer, **options)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if len(rates) < total else None
    return rates


def test_by_default_the_rate_rises_over_a_tenth_and_then_stays() -> None:
    assert _rates(20, warmup=0.1) == [0.5] + [1.0] * 19


def test_the_cosine_is_torch_s() -> None:
    expected = _torch_rates(CosineAnnealingLR, 10, T_max=10)

    assert _rates(10, schedule="cosine") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("warmup", [0.3, 0.25])
def test_one_cycle_is_torch_s(warmup: float) -> None:
    expected = _torch_rates(OneCycleLR, 10, max_lr=1.0, total_steps=10, pct_start=warmup)

    assert _rates(10, schedule="one_cycle", warmup=warmup) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("power", "midpoint"), [(10, 0.2403), (2, 0.4142), (1, 0.5)])
def test_the_cosine_power_has_its_ends_and_its_midpoint(power: float, midpoint: float) -> None:
    rates = _rates(1000, schedule="cosine_power", schedule_power=power)

    assert rates[0] == pytest.approx(1)
    assert rates[500] == pytest.approx(midpoint, abs=5e-5)
    assert rates[-1] == pytest.approx(0, abs=1e-4)
    assert rates == sorted(rates, reverse=True)


def test_the_cosine_power_falls_to_its_least_rate() -> None:
    how = {"schedule": "cosine_power", "schedule_power": 10}

    rates = _rates(1000, min_lr=0.2, **how)

    assert rates[0] == pytest.approx(1)
    assert rates[500] == pytest.approx(0.2 + 0.8 * 0.2403, abs=5e-5)
    assert rates[-1] == pytest.approx(0.2, abs=1e-4)
    assert rates == pytest.approx([0.2 + 0.8 * rate for rate in _rates(1000, **how)])
    assert _rates(9, min_lr=3, **how) == [1.0] * 9


def test_the_cosine_power_near_one_is_the_cosine() -> None:
    near = _rates(50, schedule="cosine_power", schedule_power=1 + 1e-9)

    assert near == pytest.approx(_rates(50, schedule="cosine"), abs=1e-6)


def test_the_linear_schedule_is_a_line_to_zero() -> None:
    rates = _rates(5, schedule="linear")

    assert rates == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "cosine_power"])
def test_a_warmup_rises_to_where_the_fall_begins(schedule: str) -> None:
    rates = _rates(10, schedule=schedule, warmup=0.4)

    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "cosine_power", "one_cycle"])
def test_a_run_of_one_step_has_a_rate(schedule: str) -> None:
    assert 0 < _rates(1, schedule=schedule, warmup=0.1)[0] <= 1
