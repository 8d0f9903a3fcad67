"""What YAML means in the project's files."""

from __future__ import annotations

from typing import Any

import pytest

from stockpot.yaml_files import parsed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-2e+4", -20000.0),
        (".5e2", 50.0),
        ("2.5e-1", 0.25),
        ("3", 3),
        ("true", True),
        ("'1e-3'", "1e-3"),
        ("7e12ab", "7e12ab"),
        ("e3", "e3"),
        ("1e", "1e"),
    ],
)
def test_numbers_with_an_exponent_need_no_point(text: str, expected: Any) -> None:
    found = parsed(f"x: [{text}]")["x"][0]

    assert (found, type(found)) == (expected, type(expected))
