from __future__ import annotations

import numpy as np
import pytest

from stockpot.statistics.values import are_fractions


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.3, 1.0], True),
        ([0.5, np.nan], True),
        ([0.5, 1.01], False),
        ([-0.01, 0.5], False),
        ([0.5, np.inf], False),
    ],
)
def test_fractions_lie_between_0_and_1(values: list[float], expected: bool) -> None:
    assert are_fractions(np.array(values)) is expected
