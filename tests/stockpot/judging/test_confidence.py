from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.judging.confidence import (
    SCALED,
    conformal_rows,
    ece_of_chance,
    is_finite,
    temperatures,
)
from stockpot.judging.contestants import OutputsOnSet
from stockpot.scoring.metrics.classification import ece
from stockpot.statistics.intervals import Intervals


def _drawn(seed: int, size: int = 300) -> tuple[Tensor, Tensor]:
    """Draw logits, and targets from the very probabilities that these say."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(size, 4, generator=generator)
    return logits, logits.softmax(dim=1).multinomial(1, generator=generator).flatten()


def _chance(logits: Tensor, confidence: float = 0.95) -> float:
    return ece_of_chance(logits, Intervals(300, confidence, seed=0))


def test_a_calibrated_models_error_is_that_of_chance_as_often_as_was_said() -> None:
    draws = [_drawn(seed) for seed in range(200)]

    within = [ece(logits, targets) <= _chance(logits, 0.9) for logits, targets in draws]

    assert sum(within) / 200 == pytest.approx(0.9, abs=3 * (0.9 * 0.1 / 200) ** 0.5)


def test_a_model_that_is_too_sure_exceeds_chance() -> None:
    logits, targets = _drawn(0)

    assert ece(4 * logits, targets) > 2 * _chance(4 * logits)


def test_chance_depends_on_the_seed_and_shrinks_with_the_examples() -> None:
    logits = _drawn(0, 5000)[0]

    assert _chance(logits) == _chance(logits)
    assert _chance(logits) < _chance(logits[:200]) / 3


def test_models_with_finite_outputs_are_calibrated() -> None:
    logits, targets = _drawn(0)

    temperature_of = temperatures(OutputsOnSet({"sure": 3 * logits, "broken": logits / 0}, targets))

    assert temperature_of == {"sure": pytest.approx(3, rel=0.25)}


def test_scaling_mends_a_model_that_is_too_sure() -> None:
    logits, targets = _drawn(2)
    temperature = temperatures(OutputsOnSet({"sure": 4 * logits}, targets))["sure"]

    values = {
        m.name: (m.value(4 * logits, targets), m.value(4 * logits / temperature, targets))
        for m in SCALED
    }

    assert values.keys() == {"nll_scaled", "brier_scaled", "ece_scaled"}
    assert all(after < before for before, after in values.values())


def test_conformal_rows_say_how_often_and_how_large() -> None:
    val, test = _drawn(0, 500), _drawn(1, 500)

    [row] = conformal_rows(
        OutputsOnSet({"a": val[0]}, val[1]), OutputsOnSet({"a": test[0]}, test[1]), ["a"], 0.2, 0.95
    )

    assert (row["model"], row["alpha"]) == ("a", 0.2)
    assert row["low"] <= row["coverage"] <= row["high"]
    assert row["low"] < 0.8 < row["high"]
    assert 1 < row["mean_size"] < 4


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_one_bad_output_is_enough(value: float) -> None:
    outputs = torch.zeros(3, 2)

    assert is_finite(outputs)
    outputs[1, 1] = value
    assert not is_finite(outputs)
