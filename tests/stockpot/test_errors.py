from __future__ import annotations

import pytest

from stockpot.errors import InputError, nearest_hint, unknown_name


def test_an_unknown_name_lists_the_choices_sorted_and_the_nearest() -> None:
    error = unknown_name("sampler", "tpee", ["tpe", "gp"])

    assert isinstance(error, InputError)
    assert str(error) == ("unknown sampler 'tpee', choose from ['gp', 'tpe']; did you mean 'tpe'?")


def test_nothing_is_suggested_where_no_name_is_near() -> None:
    assert str(unknown_name("sampler", "xyz", ["tpe"])) == (
        "unknown sampler 'xyz', choose from ['tpe']"
    )


@pytest.mark.parametrize(
    ("name", "hint"), [("lineer", "; did you mean 'linear'?"), ("qqq", ""), ("", "")]
)
def test_a_hint_ends_a_message(name: str, hint: str) -> None:
    assert nearest_hint(name, ["slerp", "linear"]) == hint
