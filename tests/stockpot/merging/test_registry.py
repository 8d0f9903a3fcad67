from __future__ import annotations

import pytest

from stockpot.errors import InputError
from stockpot.merging.methods.linear import linear
from stockpot.merging.registry import METHODS


def test_linear_is_registered_unchanged() -> None:
    assert METHODS["linear"].merge is linear


def test_every_method_has_the_name_that_its_decorator_gives_it() -> None:
    assert {name: method.name for name, method in METHODS.items()} == {
        name: name for name in METHODS
    }


def test_a_function_that_is_no_method_is_refused() -> None:
    with pytest.raises(InputError, match="'math:fsum': must be decorated with"):
        METHODS["math:fsum"]
