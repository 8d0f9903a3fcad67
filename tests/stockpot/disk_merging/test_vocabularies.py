"""Whether the tokens of models have the same numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.model_folder import check_equal_vocabularies
from stockpot.errors import InputError
from tests.support.merge_files import language_model, read_job, save_model

TOKENS = {"a": 0, "b": 1, "<end>": 2}


def save_tokenizer(
    folder: Path, vocabulary: Any, added: list[dict[str, Any]] | None = None
) -> Path:
    folder.mkdir(exist_ok=True)
    content = {"model": {"vocab": vocabulary}, "added_tokens": added or []}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_one_vocabulary_may_be_written_in_several_ways(tmp_path: Path) -> None:
    end = {"id": 2, "content": "<end>", "special": True}
    folders = [
        save_tokenizer(tmp_path / "plain", TOKENS),
        save_tokenizer(tmp_path / "added", {"b": 1, "a": 0}, [end]),
        save_tokenizer(tmp_path / "unigram", [["a", -1.5], ["b", -2.0], ["<end>", 0.0]]),
    ]

    check_equal_vocabularies(folders)


@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [
        ({"a": 1, "b": 0, "<end>": 2}, "the ids of 2 tokens differ .* such as 'a'"),
        (TOKENS | {"more": 3}, "the ids of 1 tokens differ .* such as 'more'"),
        (7, "not a tokenizer with a vocabulary"),
    ],
)
def test_other_vocabularies_are_refused(tmp_path: Path, vocabulary: Any, expected: str) -> None:
    folders = [
        save_tokenizer(tmp_path / "one", TOKENS),
        save_tokenizer(tmp_path / "two", vocabulary),
    ]

    with pytest.raises(InputError, match=expected):
        check_equal_vocabularies(folders)


@pytest.fixture
def union(tmp_path: Path) -> MergeJob:
    for number, name in enumerate(("one", "two")):
        save_model(tmp_path / name, language_model(number))
        save_tokenizer(tmp_path / name, TOKENS)
    text = "merge_method: linear\nmodels: [{model: one}, {model: two}]\ntokenizer_source: union"
    return read_job(tmp_path, text)


def test_the_union_of_equal_tokenizers_is_the_first_one(union: MergeJob) -> None:
    union.check()
    union.run(lambda _bytes: None)

    merged, first = (union.folder / name / "tokenizer.json" for name in ("merged", "one"))
    assert merged.read_bytes() == first.read_bytes()


def test_a_union_of_other_tokenizers_is_refused_before_anything_is_read(union: MergeJob) -> None:
    save_tokenizer(union.folder / "two", TOKENS | {"more": 3})

    with pytest.raises(InputError, match="only equal vocabularies have a union so far"):
        union.check()


def test_a_union_needs_a_tokenizer_of_every_model(union: MergeJob) -> None:
    (union.folder / "two" / "tokenizer.json").unlink()

    with pytest.raises(InputError, match=r"two: has no tokenizer.json, which a union"):
        union.check()
