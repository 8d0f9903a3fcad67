from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stockpot
from stockpot.errors import InputError
from stockpot.storage.keys import code_digest, content_key

SOURCE = """
def mean(values):
    return sum(values) / len(values)
"""

json_values = st.none() | st.integers() | st.text() | st.lists(st.integers())


@pytest.fixture
def digest_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Hash a source text as a user's module of one fixed file name."""
    code_digest.cache_clear()

    def digest(source: str) -> str:
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        (folder / "my_workload.py").write_text(source)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            code_digest.cache_clear()
            return code_digest("my_workload")

    yield digest
    code_digest.cache_clear()


@pytest.mark.parametrize(
    "same",
    [
        "# a comment\n" + SOURCE,
        '"""A module docstring."""\n' + SOURCE,
        "def mean(values):\n    '''Return the mean.'''\n    return sum(values) / len(values)",
        "\n\n\ndef mean( values ):\n        return (sum(values)\n            / len(values))  # why",
    ],
    ids=["comment", "module docstring", "docstring", "layout"],
)
def test_what_changes_no_behaviour_keeps_the_digest(
    digest_of: Callable[[str], str], same: str
) -> None:
    assert digest_of(same) == digest_of(SOURCE)


@pytest.mark.parametrize(
    "other",
    [
        SOURCE.replace("/", "//"),
        SOURCE.replace("mean", "average"),
        SOURCE + "\nx = 1\n",
        SOURCE.replace("return", "print('x')\n    return"),
        SOURCE.replace("    return", "    x = 'not a docstring'\n    return"),
    ],
    ids=["operator", "name", "statement", "call", "string"],
)
def test_what_changes_behaviour_changes_the_digest(
    digest_of: Callable[[str], str], other: str
) -> None:
    assert digest_of(other) != digest_of(SOURCE)


def test_a_class_with_only_a_docstring_is_an_empty_class(digest_of: Callable[[str], str]) -> None:
    assert digest_of('class A:\n    """Nothing."""') == digest_of("class A:\n    pass")


def test_a_folder_and_its_files_have_one_digest_in_any_order() -> None:
    merging = Path(stockpot.__path__[0]) / "merging"
    files = [f"merging/{path.name}" for path in merging.glob("*.py")]

    assert code_digest("merging") == code_digest(*files) == code_digest(*reversed(files))


def test_more_code_is_another_digest() -> None:
    assert code_digest("merging") != code_digest("merging", "search.py")


def test_code_that_cannot_be_found_is_named() -> None:
    with pytest.raises(InputError, match="module 'no_such_module' cannot be found"):
        code_digest("no_such_module")


@given(parts=st.dictionaries(st.text(min_size=1), json_values, max_size=5))
def test_a_key_does_not_depend_on_the_order_of_its_parts(parts: dict[str, object]) -> None:
    backwards = dict(reversed(parts.items()))

    assert content_key(**parts) == content_key(**backwards)


def test_a_key_does_not_depend_on_the_order_of_inner_parts() -> None:
    assert content_key(a={"x": 1, "y": 2}) == content_key(a={"y": 2, "x": 1})


@pytest.mark.parametrize(
    "other",
    [{"a": 2, "b": [1, 2]}, {"a": 1, "b": [2, 1]}, {"a": 1}, {"a": 1, "c": [1, 2]}, {}],
)
def test_another_value_order_of_a_list_or_name_is_another_key(other: dict[str, object]) -> None:
    assert content_key(**other) != content_key(a=1, b=[1, 2])


def test_a_key_is_twenty_hex_digits_and_the_same_in_every_process() -> None:
    assert content_key(a=1, b="x") == "ecf9e98ec0641e23113f"


def test_a_key_of_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_key(a=float("nan"))


@pytest.fixture
def other_threads_go_on() -> Iterator[None]:
    """Let the collector, which runs while code is parsed, give way to other threads."""

    def give_way(*_: object) -> None:
        time.sleep(1e-4)

    before = gc.get_threshold()
    gc.callbacks.append(give_way)
    gc.set_threshold(100)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(give_way)


@pytest.mark.usefixtures("other_threads_go_on")
def test_code_is_digested_in_many_threads_at_once() -> None:
    paths = ["keys.py", "seeding.py", "errors.py", "models.py"] * 4

    def digest(depth: int, path: str) -> str:
        return digest(depth - 1, path) if depth else code_digest.__wrapped__(path)

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(digest, range(len(paths)), paths))

    assert together == [code_digest(path) for path in paths]
