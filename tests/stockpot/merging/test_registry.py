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


@pytest.mark.parametrize("coefficient", [float("nan"), float("inf"), 1e308, -1e39])
def test_a_coefficient_that_float32_cannot_hold_is_refused(coefficient: float) -> None:
    with pytest.raises(InputError, match=r"^ties: coefficients must be finite in float32, got"):
        METHODS["ties"].check([1.0, coefficient], has_base=True, options={})


def test_an_option_that_no_float_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match=r"^passthrough: bad options \{.scale.: 10"):
        METHODS["passthrough"].check([1.0], has_base=False, options={"scale": 10**30})
