from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from stockpot.diagnostics.precheck.error_bound import error_bound, largest_error


@pytest.mark.parametrize("wrong", [0, 3, 20, 50])
def test_the_bound_is_that_of_clopper_and_pearson(wrong: int) -> None:
    both_sides = binomtest(wrong, 50).proportion_ci(0.98, method="exact")

    assert largest_error(wrong, 50, 0.01) == pytest.approx(both_sides.high)


def test_the_bound_covers_the_true_error_as_often_as_it_says() -> None:
    wrong = np.random.default_rng(0).binomial(100, 0.1, size=2000)

    covered = np.mean([largest_error(int(count), 100, 0.05) >= 0.1 for count in wrong])

    assert covered >= 0.95


def test_the_bound_is_corrected_for_the_choices_made_on_val() -> None:
    values = torch.tensor([1.0] * 95 + [0.0] * 5)

    of_all = error_bound(values, 0.01, 4, 0)
    of_three = error_bound(values, 0.01, 4, 1)
    assert of_all is not None
    assert of_three is not None

    assert of_all["error_below"] == pytest.approx(largest_error(5, 100, 0.005), abs=1e-6)
    assert of_three["choices"] == 16
    assert of_three["error_below"] == pytest.approx(largest_error(5, 100, 0.01 / 16), abs=1e-6)


def test_a_metric_that_is_not_right_or_wrong_has_no_bound() -> None:
    assert error_bound(torch.tensor([0.5, 1.0]), 0.01, 4, 0) is None
