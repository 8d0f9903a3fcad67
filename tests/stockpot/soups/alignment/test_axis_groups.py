from __future__ import annotations

from stockpot.soups.alignment.axis_groups import FIXED, AxisGroups


def test_joined_axes_have_the_first_ones_name() -> None:
    groups = AxisGroups()
    first, second, third = (groups.new(name) for name in ("first", "second", "third"))

    groups.join(third, second)
    groups.join(second, first)

    assert [groups.axis(entry) for entry in (first, second, third)] == ["first"] * 3


def test_blocks_are_kept_with_the_name() -> None:
    groups = AxisGroups()
    group, _ = groups.new("channels")

    assert groups.axis((group, 4)) == ("channels", 4)


def test_an_axis_that_is_joined_to_a_fixed_one_stays_with_all_of_its_group() -> None:
    groups = AxisGroups()
    first, second = groups.new("first"), groups.new("second")
    groups.join(first, second)

    groups.join(second, FIXED)

    assert groups.axis(first) is None
    assert groups.axis(second) is None


def test_axes_of_unlike_blocks_stay() -> None:
    groups = AxisGroups()
    first, second = groups.new("first"), groups.new("second")

    groups.join(first, (second[0], 2))

    assert groups.axis(first) is None
    assert groups.axis(second) is None
