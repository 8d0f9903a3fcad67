from __future__ import annotations

import pytest

from stockpot.merging.method import method
from stockpot.merging.methods.linear import linear
from stockpot.merging.registry import METHODS


def test_linear_is_registered_unchanged() -> None:
    assert METHODS["linear"].merge is linear
    assert METHODS["linear"].name == "linear"


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="merge method 'linear' is registered twice"):
        method("linear")(linear)

    assert METHODS["linear"].merge is linear
