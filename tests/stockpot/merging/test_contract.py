"""The contract of every merge method: a new one is tested by being registered."""

from __future__ import annotations

import inspect
import math

import pytest

from stockpot.errors import InputError
from stockpot.merging.checks import check_method
from stockpot.merging.registry import METHODS, Method

pytestmark = pytest.mark.parametrize("method", METHODS.values(), ids=[*METHODS])


def required(method: Method) -> dict[str, float]:
    """Return values for the options that have no default."""
    return {"t": 0.4} if "t" in method.options else {}


def test_a_built_in_method_fails_no_check(method: Method) -> None:
    results = list(check_method(method, required(method)))

    assert [result for result in results if result.outcome == "failed"] == []


def test_documentation_names_source_and_every_argument(method: Method) -> None:
    text = inspect.getdoc(method.merge) or ""
    names = inspect.signature(method.merge).parameters

    assert all(f"    {name}: " in text for name in names)
    assert "Returns:" in text
    assert "Source:" in text


def test_an_option_that_is_no_number_is_refused(method: Method) -> None:
    options = required(method)
    numbers = options.keys() | {n for n, d in method.options.items() if type(d) in (int, float)}

    for name in sorted(numbers):
        with pytest.raises(InputError, match=f"^{method.name}: {name} must be "):
            method.check(
                [1.0] * method.num_models[0],
                has_base=True,
                options=options | {name: -math.inf},
            )
