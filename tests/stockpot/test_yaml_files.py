"""What YAML means in the project's files."""

from __future__ import annotations

from typing import Any

import pytest

from stockpot.disk_merging.merge_file import MergeFile
from stockpot.errors import InputError
from stockpot.yaml_files import parsed, validated


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "models: [{path: a, coefficient: .nan}]",
            "models.0.coefficient: must be a finite number, got nan",
        ),
        (
            "models: [{path: a, coefficient: yes}]",
            "models.0: coefficient must not be true or false, got true",
        ),
        ("models: []", "models: must have at least 1 item, got []"),
        ("models: [{path: a, weight: 1}]", "models.0.weight: unknown field 'weight'; here it is "),
        ("models: [a]\nbase_model: b", "base_model: unknown field 'base_model'; here it is 'base'"),
        ("models: [a]\nbase_path: b", "; did you mean 'base'?"),
    ],
)
def test_an_error_is_one_line_on_what_was_meant(text: str, expected: str) -> None:
    content = {"method": "linear"} | parsed(text)

    with pytest.raises(InputError) as caught:
        validated(MergeFile, content, "m.yaml")

    said = str(caught.value)
    assert said.startswith("m.yaml: ")
    assert expected in said
    assert "\n" not in said
