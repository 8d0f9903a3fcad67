"""Splits by seed, and the check that given ones have nothing in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpot.errors import InputError
from stockpot.workloads.splits import check_disjoint, split_by_seed


@given(st.lists(st.integers(0, 60), min_size=1, max_size=80), st.integers(0, 9))
def test_each_example_is_in_one_split_and_equal_ones_stay_together(contents, seed):
    contents = [*contents, 100, 101, 102]

    parts = split_by_seed(contents, seed)

    assert sorted(index for part in parts.values() for index in part) == list(range(len(contents)))
    homes = {split: {contents[index] for index in part} for split, part in parts.items()}
    assert sum(map(len, homes.values())) == len(set(contents))
    assert all(homes.values())


def test_shares_are_of_each_class_and_fixed_by_the_seed():
    classes = ["a"] * 200 + ["b"] * 20 + ["c"] * 3

    parts = split_by_seed(range(223), 0, classes=classes)

    counts = {
        split: [[classes[index] for index in part].count(name) for name in "abc"]
        for split, part in parts.items()
    }
    assert counts == {"train": [140, 14, 1], "val": [30, 3, 1], "test": [30, 3, 1]}
    assert parts == split_by_seed(range(223), 0, classes=classes)
    assert parts != split_by_seed(range(223), 1, classes=classes)


def test_more_classes_move_no_example_of_the_others():
    alone = split_by_seed(range(50), 0, classes=["b"] * 50)

    beside = split_by_seed(range(60), 0, classes=["b"] * 50 + ["a"] * 10)

    assert {index for index in beside["val"] if index < 50} == set(alone["val"])


def test_a_class_too_small_to_be_split_is_named():
    with pytest.raises(InputError, match=r"class .b. must have 3 different examples.*got 2"):
        split_by_seed([*range(9), "x", "y", "y"], 0, classes=["a"] * 9 + ["b"] * 3)


def test_an_example_in_two_splits_is_named_with_both_places():
    contents = {
        "train": {1: "train.csv:2", 2: "train.csv:3"},
        "val": {3: "val.csv:2", 2: "val.csv:3", 1: "val.csv:4"},
    }

    with pytest.raises(InputError) as caught:
        check_disjoint(contents)

    assert str(caught.value) == (
        "val must have no example of train, got 2: val.csv:3 is train.csv:3; remove them from one "
        "of the two, or give all examples as one: equal ones then stay together"
    )


def test_splits_without_a_common_example_pass():
    check_disjoint({"train": {1: "a"}, "val": {2: "b"}, "test": {3: "c"}})
