from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from code_caches import forget

from stockpot.errors import InputError
from stockpot.storage import code_keys
from stockpot.storage.code_keys import code_key, imported_code

SOURCE = """
def mean(values):
    return sum(values) / len(values)
"""

Write = Callable[[Mapping[str, str]], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules of a user's project, which can be imported, and forget what was read."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        forget()

    yield write
    forget()


@pytest.fixture
def digest_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Return the key of a source text as a user's module of one fixed file name."""

    def digest(source: str) -> str:
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        (folder / "my_workload.py").write_text(source)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            forget()
            return code_key("my_workload")

    yield digest
    forget()


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


@pytest.mark.parametrize(
    "imported",
    [
        "import helper",
        "from helper import value",
        "def later():\n    from helper import value",
        "try:\n    import helper\nexcept ImportError:\n    helper = None",
    ],
)
def test_a_helper_is_part_of_the_key_wherever_it_is_imported(write: Write, imported: str) -> None:
    write({"mine.py": imported, "helper.py": "value = 1"})
    before = code_key("mine")
    write({"helper.py": "value = 2"})

    assert code_key("mine") != before


def test_helpers_of_helpers_relative_imports_and_packages_are_followed(write: Write) -> None:
    write(
        {
            "nets/__init__.py": "from nets.shapes import width",
            "nets/shapes.py": "from . import deep\nwidth = deep.value",
            "nets/deep.py": "value = 3",
            "nets/mine.py": "from .shapes import width",
        }
    )

    assert set(imported_code("nets.mine")) == {"nets", "nets.deep", "nets.mine", "nets.shapes"}


def test_a_package_runs_when_a_module_in_it_is_imported(write: Write) -> None:
    write({"nets/__init__.py": "", "nets/mine.py": "x = 1"})
    before = code_key("nets.mine")
    write({"nets/__init__.py": "import torch\ntorch.set_num_threads(2)"})

    assert code_key("nets.mine") != before


@pytest.mark.parametrize("statement", ["", "else:\n    import helper"])
def test_imports_for_types_alone_do_not_count(write: Write, statement: str) -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import helper\n"
    write({"mine.py": source + statement, "helper.py": "value = 1"})

    assert ("helper" in imported_code("mine")) == bool(statement)


def test_an_import_that_is_not_for_types_counts(write: Write) -> None:
    source = "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import helper\n"
    write({"mine.py": source, "helper.py": "value = 1"})

    assert set(imported_code("mine")) == {"mine", "helper"}


def test_folders_without_init_are_packages_too(write: Write) -> None:
    write(
        {
            "nets/deep/mine.py": "from .shapes import width\nfrom . import more\nimport nets.top",
            "nets/deep/shapes.py": "width = 3",
            "nets/deep/more.py": "",
            "nets/top.py": "",
        }
    )

    named = {"nets.deep.mine", "nets.deep.more", "nets.deep.shapes", "nets.top"}
    assert set(imported_code("nets.deep.mine")) == named


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfimport helper", b"# coding: latin-1\nimport helper\nname = '\xe9'"],
    ids=["byte order mark", "declared encoding"],
)
def test_sources_are_read_in_the_encoding_that_python_reads_them_in(
    write: Write, tmp_path: Path, content: bytes
) -> None:
    write({"helper.py": "value = 1"})
    (tmp_path / "mine.py").write_bytes(content)

    assert set(imported_code("mine")) == {"mine", "helper"}


def test_a_module_before_the_standard_library_on_the_path_is_the_users(write: Write) -> None:
    write({"mine.py": "import antigravity", "antigravity.py": "value = 1"})

    assert set(imported_code("mine")) == {"antigravity", "mine"}


def test_an_installed_plugin_has_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "my_rules.py").write_text("import torch")

    def install(version: str) -> str:
        about = folder / f"best_rules-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Name: best-rules\nVersion: {version}\n")
        (about / "top_level.txt").write_text("my_rules\n")
        forget()
        return code_key("my_rules")

    monkeypatch.syspath_prepend(folder)
    first = install("1.0")
    assert imported_code("my_rules") == {"my_rules": "1.0"}
    (folder / "best_rules-1.0.dist-info").rename(tmp_path / "removed")

    assert install("1.1") != first


def test_a_module_without_source_or_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "copied_by_hand.py").write_text("")
    monkeypatch.syspath_prepend(folder)

    with pytest.raises(InputError, match="'copied_by_hand': must be Python source or belong to"):
        code_key("copied_by_hand")


def test_modules_that_import_each_other_are_read_once(write: Write) -> None:
    write({"one.py": "import two", "two.py": "import one"})

    assert set(imported_code("one")) == {"one", "two"}
    assert code_key("one") == code_key("two")


def test_nothing_is_run(write: Write) -> None:
    write({"mine/__init__.py": "raise RuntimeError", "mine/part.py": "raise RuntimeError"})

    assert set(imported_code("mine.part")) == {"mine", "mine.part"}


def test_packages_of_others_are_not_followed_but_torch_has_its_version(write: Write) -> None:
    write({"mine.py": "import torch.nn\nimport yaml\nimport not_installed"})

    assert imported_code("mine")["torch"] == torch.__version__
    assert set(imported_code("mine")) == {"mine", "torch"}


def test_another_version_of_torch_is_another_key(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write({"mine.py": "import torch"})
    before = code_key("mine")
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "99.0")
    forget()

    assert code_key("mine") != before


def test_bookkeeping_is_no_part_of_a_key() -> None:
    trained = imported_code("stockpot.ingredients.finetuning.loop")

    assert not [name for name in trained if name.startswith(("stockpot.storage.", "stockpot.err"))]
    assert "stockpot.metric_units" in imported_code("stockpot.reporting.html")  # writes numbers
    assert "stockpot.ingredients.finetuning.optimizers" in trained


def test_a_table_of_names_is_no_part_of_a_key() -> None:
    merged = imported_code("stockpot.merging.engine")

    assert "stockpot.merging.recipe" in merged  # which imports the table
    assert "stockpot.merging.methods.linear" in merged  # which the engine imports itself
    assert "stockpot.merging.methods.ties" not in merged


def test_code_that_cannot_be_found_is_named() -> None:
    with pytest.raises(InputError, match="module 'no_such_module' cannot be found"):
        code_key("no_such_module")


def test_code_that_is_no_python_is_named(write: Write) -> None:
    write({"mine.py": "def f(:"})

    with pytest.raises(InputError, match=r"mine\.py: must be Python, got"):
        code_key("mine")


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
    files = [Path(code_keys.__file__).parent / name for name in ("keys.py", "store.py")] * 8
    read = code_keys._read.__wrapped__

    def digest(depth: int, file: Path) -> str:
        return digest(depth - 1, file) if depth else read(file.stem, file)[0]

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(digest, range(len(files)), files))

    assert together == [read(file.stem, file)[0] for file in files]
