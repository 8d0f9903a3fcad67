from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpot.storage.keys import content_key

json_values = st.none() | st.integers() | st.text() | st.lists(st.integers())


@given(parts=st.dictionaries(st.text(min_size=1), json_values, max_size=5))
def test_a_key_does_not_depend_on_the_order_of_its_parts(parts: dict[str, object]) -> None:
    backwards = dict(reversed(parts.items()))

    assert content_key(**parts) == content_key(**backwards)


def test_a_key_does_not_depend_on_the_order_of_inner_parts() -> None:
    assert content_key(a={"x": 1, "y": 2}) == content_key(a={"y": 2, "x": 1})


@pytest.mark.parametrize(
    "other",
    [{"a": 2, "b": [1, 2]}, {"a": 1, "b": [2, 1]}, {"a": 1}, {"a": 1, "c": [1, 2]}, {}],
)
def test_another_value_order_of_a_list_or_name_is_another_key(other: dict[str, object]) -> None:
    assert content_key(**other) != content_key(a=1, b=[1, 2])


def test_a_key_is_twenty_hex_digits_and_the_same_in_every_process() -> None:
    assert content_key(a=1, b="x") == "ecf9e98ec0641e23113f"


def test_a_key_of_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_key(a=float("nan"))
