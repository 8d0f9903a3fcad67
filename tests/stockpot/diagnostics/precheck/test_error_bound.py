from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from stockpot.diagnostics.precheck.error_bound import error_bound


def _values(num_wrong: int, num_examples: int = 100) -> Tensor:
    return (torch.arange(num_examples) >= num_wrong).double()


@pytest.mark.parametrize(("left_out", "choices"), [(0, 2), (1, 16)])
@pytest.mark.parametrize("wrong", [0, 3, 20, 100])
def test_the_bound_is_that_of_clopper_and_pearson_corrected_for_the_choices_made_on_val(
    wrong: int, left_out: int, choices: int
) -> None:
    found = error_bound(_values(wrong), 0.01, 4, left_out)

    expected = binomtest(wrong, 100, alternative="less").proportion_ci(1 - 0.01 / choices, "exact")
    assert found is not None
    assert (found["num_wrong"], found["choices"]) == (wrong, choices)
    assert found["error_below"] == pytest.approx(expected.high, abs=1e-6)


def test_the_bound_covers_the_true_error_as_often_as_it_says() -> None:
    bounds = [error_bound(_values(wrong), 0.1, 4, 0) for wrong in range(101)]  # of two choices
    drawn = np.random.default_rng(0).binomial(100, 0.1, size=2000)

    covered = np.array([bound is not None and bound["error_below"] >= 0.1 for bound in bounds])

    assert covered[drawn].mean() >= 0.95


def test_a_metric_that_is_not_right_or_wrong_has_no_bound() -> None:
    assert error_bound(torch.tensor([0.5, 1.0]), 0.01, 4, 0) is None
