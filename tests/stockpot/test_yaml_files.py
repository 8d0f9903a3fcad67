"""The project's YAML files: numbers, aliases, documents and errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.errors import InputError
from stockpot.yaml_files import parsed, read_yaml, validated


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x {b: *x}", "aliases .* more than"),
        ("a: [" * 2000, "nested too deeply"),
        (
            "a0: &a0 [1, 1]\n"
            + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(60)),
            "aliases .* more than",
        ),
        ("{[a]: 1}", "not readable as YAML"),
        ("a: 2001-99-99", "not readable as YAML"),
        ("a: \x00", "not readable as YAML"),
    ],
)
def test_no_text_fills_the_memory_or_the_stack(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "merge.yaml"
    path.write_text(text)

    with pytest.raises(InputError, match=rf"^merge.yaml: .*{message}"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "must be a YAML file"),
        (os.mkfifo, "must be a YAML file"),
        (lambda path: path.symlink_to(path), "must be a YAML file"),
        (lambda path: path.symlink_to("nowhere"), "no such file"),
        (lambda path: path.write_bytes(b"\xff\xfea"), "is not UTF-8"),
    ],
)
def test_what_is_no_file_of_text_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "merge.yaml")

    with pytest.raises(InputError, match=rf"merge\.yaml: {message}"):
        read_yaml(tmp_path / "merge.yaml")


def test_a_field_without_a_name_is_unknown() -> None:
    for content in ({"": 1}, {"": 1, "models": [{"path": "a", "": 2}]}):
        with pytest.raises(InputError, match="unknown field ''"):
            validated(MergeFile, {"method": "linear", **content}, "merge.yaml")
