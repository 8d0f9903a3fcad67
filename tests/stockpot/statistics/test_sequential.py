from __future__ import annotations

import itertools

import numpy as np
import pytest

from stockpot.statistics.sequential import FallTest


@pytest.mark.parametrize(
    "differences",
    [
        (1, -1, 0, 0, 0, 0),
        (1, 1, 1, -1, -1, -1),
        (0.5, 0.5, -1, 0, 0, 0),
        (2, -0.5, -0.5, -1, 0, 0),
    ],
)
@pytest.mark.parametrize("risk", [0.5, 0.2])
def test_over_all_orders_a_sum_of_zero_is_rejected_at_most_as_often_as_stated(
    differences: tuple[float, ...], risk: float
) -> None:
    orders = np.array(list(itertools.permutations(differences)))

    rejected = [FallTest(6, width=2, risk=risk).rejects(order) for order in orders]

    assert 0 <= np.mean(rejected) <= risk


def test_the_expected_wealth_stays_one_at_a_sum_of_zero() -> None:
    tests = []
    for order in itertools.permutations((1.0, -1.0, 0.5, -0.5, 0.0)):
        test = FallTest(5, width=1, risk=1e-9)
        test.rejects(np.array(order[:3]))
        tests.append(test)

    wealth = np.exp([test._log_wealth for test in tests]).mean(axis=0)

    np.testing.assert_allclose(wealth, 1)


def test_one_call_is_as_many_calls() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-1, 1, 200).astype(float)
    for risk in (1e-3, 1e-30):
        parts = FallTest(1000, width=1, risk=risk)
        rejected = [parts.rejects(part) for part in np.split(values, [1, 50, 120])]

        assert FallTest(1000, width=1, risk=risk).rejects(values) == any(rejected)


def test_losses_that_rule_out_a_sum_of_zero_are_rejected_at_any_risk() -> None:
    assert FallTest(5, width=1, risk=1e-8).rejects(np.array([-1.0, -1.0, -1.0, -1.0]))


def test_gains_are_never_rejected() -> None:
    assert not FallTest(6, width=1, risk=0.9).rejects(np.ones(6))
