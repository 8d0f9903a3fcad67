from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpot.statistics.holm import holm

p_values = st.lists(st.floats(0, 1), max_size=12)


def test_holms_p_by_hand() -> None:
    # 0.01 x 4, 0.02 x 3, 0.03 x 2 (raised to the one before), 0.04 x 1 (likewise).
    assert holm([0.02, 0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.06, 0.04, 0.06])


def test_one_test_is_not_corrected() -> None:
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_no_p_exceeds_one() -> None:
    assert holm([0.6, 0.9, 0.5]) == [1, 1, 1]


def _rejected(p_values: list[float], level: float) -> set[int]:
    """Step down as the paper says: stop at the first p above level / tests that are left."""
    rejected: set[int] = set()
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] * (len(p_values) - place) > level:
            break
        rejected.add(index)
    return rejected


@given(p_values=p_values, level=st.sampled_from([0.01, 0.05, 0.2]))
def test_those_up_to_the_level_are_what_stepping_down_rejects(
    p_values: list[float], level: float
) -> None:
    adjusted = holm(p_values)

    assert {index for index, p in enumerate(adjusted) if p <= level} == _rejected(p_values, level)


@given(p_values=p_values)
def test_adjusted_p_are_no_smaller_and_in_the_same_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)

    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.array(adjusted)[order]) >= 0)


@given(p_values=p_values, order=st.data())
def test_the_order_of_tests_does_not_matter(p_values: list[float], order: st.DataObject) -> None:
    shuffled = order.draw(st.permutations(range(len(p_values))))

    again = holm([p_values[place] for place in shuffled])

    assert again == [holm(p_values)[place] for place in shuffled]


def test_false_alarms_in_a_family_of_equal_models_are_as_rare_as_the_level() -> None:
    families = np.random.default_rng(0).random((1000, 10))

    alarms = [min(holm(list(family))) <= 0.05 for family in families]

    # Three standard errors above the level.
    assert np.mean(alarms) <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
