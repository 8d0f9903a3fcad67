"""Tables of three formats, and the errors that name file and line."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from stockpot.errors import InputError
from stockpot.workloads.tables.reading import Table, find_shift, find_splits, read_table

ROWS = [
    {"age": 31, "town": "Köln, am Rhein", "paid": True},
    {"age": None, "town": 'a "b"\nc', "paid": False},
    {"age": 2.5, "town": None, "paid": True},
]
CSV = 'age,town,paid\n31,"Köln, am Rhein",True\n\n,"a ""b""\nc",False\n2.5,,True\n'


def as_csv(path: Path) -> None:
    path.write_bytes(CSV.encode())


def as_csv_of_a_spreadsheet(path: Path) -> None:
    path.write_bytes(
        CSV.replace("\nc", "%c").replace("\n", "\r\n").replace("%c", "\nc").encode("utf-8-sig")
    )


def as_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n", encoding="utf-8")


def as_parquet(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize(
    ("name", "write", "places"),
    [
        ("a.csv", as_csv, [":2", ":4", ":6"]),
        ("a.csv", as_csv_of_a_spreadsheet, [":2", ":4", ":6"]),
        ("a.jsonl", as_jsonl, [":1", ":2", ":3"]),
        ("a.parquet", as_parquet, [": row 1", ": row 2", ": row 3"]),
    ],
)
def test_a_table_reads_the_same_from_every_format(tmp_path, name, write, places):
    path = tmp_path / name
    write(path)

    table = read_table(path)

    assert list(table.columns) == ["age", "town", "paid"]
    assert table.num_rows == 3
    np.testing.assert_array_equal(table.numbers("age"), [31, math.nan, 2.5])
    assert list(table.columns["town"]) == ["Köln, am Rhein", 'a "b"\nc', None]
    assert table.texts("paid") == ["True", "False", "True"]
    assert [table.where(row) for row in range(3)] == [f"{path}{place}" for place in places]


def test_columns_are_those_asked_for_in_that_order(tmp_path):
    as_csv(tmp_path / "a.csv")

    table = read_table(tmp_path / "a.csv", ["paid", "age"])

    assert list(table.columns) == ["paid", "age"]


def test_whole_numbers_are_one_class_in_every_format_and_in_order_of_number(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"y": 10}\n{"y": 2.0}\n{"y": "2"}\n')

    table = read_table(tmp_path / "a.jsonl")

    assert table.classes("y") == ("2", "10")
    assert table.targets("y", table.classes("y")) == [1, 0, 0]


def test_a_cell_of_any_length_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "x" * 200_000 + "\n")

    table = read_table(tmp_path / "a.csv")

    assert [len(text) for text in table.texts("text")] == [200_000]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "a.csv: must have rows, got an empty table"),
        ("a.csv", b"age,town\n", "a.csv: must have rows, got an empty table"),
        ("a.jsonl", b"\n", "a.jsonl: must have rows, got an empty table"),
        ("a.csv", b"age\n1\n\xff\n", "a.csv:3: must be UTF-8, got the byte 0xff"),
        ("a.csv", b"age,town\n1,K\xf6ln\n", "a.csv:2: must be UTF-8, got the byte 0xf6"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xe9"}', "a.jsonl:2: must be UTF-8"),
        ("a.csv", b"age,town\n1,a\n2\n", "a.csv:3: must have 2 cells, got 1"),
        ("a.csv", b"age,age\n1,a\n", "a.csv:1: columns must have different names"),
        ("a.csv", b'age\n1\n"x"y\n', "a.csv:3: must be CSV"),
        ("a.csv", b'age\n1\n"x\n\n', "a.csv:3: must be CSV"),
        ("a.jsonl", b'{"a": 1}\n\n{"a": \n', "a.jsonl:3: must be JSON"),
        ("a.jsonl", b"[1, 2]\n", r"a.jsonl:1: must be an object, got '\[1, 2\]'"),
        ("a.parquet", b"PAR1 and no more", "a.parquet: must be a Parquet file"),
        ("a.xlsx", b"", "a.xlsx: a table must end in"),
        ("a.csv", b"ages,town\n1,a\n", r"column 'age', got .*did you mean 'ages'"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_the_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=words):
        read_table(tmp_path / name, ["age"])


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.csv: there must be a file, got none"):
        read_table(tmp_path / "a.csv")


def table_of(*cells: str | float | None) -> Table:
    lines = range(2, 2 + len(cells))
    return Table(Path("a.csv"), {"x": cells}, len(cells), lines)


@pytest.mark.parametrize("cell", ["three", "inf", float("inf"), "1,5", "1e999"])
def test_what_is_no_finite_number_is_named_with_its_line(cell):
    with pytest.raises(InputError, match=r"a\.csv:3: 'x' must be a finite number, got"):
        table_of("1", cell).numbers("x")


def test_a_missing_text_is_named_with_its_line():
    with pytest.raises(InputError, match=r"a\.csv:4: 'x' must have a value, got none"):
        table_of("a", "b", None).texts("x")


def test_a_class_out_of_range_is_named_with_its_line():
    with pytest.raises(
        InputError, match=r"class of 'x' at a\.csv:3: '3', choose from \['0', '1'\]"
    ):
        table_of(0, 3).targets("x", ("0", "1"))


def test_a_class_without_examples_is_named():
    with pytest.raises(InputError, match=r"a\.csv: 'x' must have examples of each class.*\['b'\]"):
        table_of("a", "c").check_all_present("x", ("a", "b", "c"))


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).touch()
    return path


def test_splits_and_shifts_are_files_of_their_names(tmp_path):
    data = folder(tmp_path, "train.csv", "val.jsonl", "test.parquet", "tweets.csv", "notes.txt")

    assert find_splits(data) == {
        "train": data / "train.csv",
        "val": data / "val.jsonl",
        "test": data / "test.parquet",
    }
    assert find_shift(data, "tweets") == data / "tweets.csv"


def test_one_file_is_train_and_its_shifts_stand_beside_it(tmp_path):
    data = folder(tmp_path, "all.csv", "later.csv") / "all.csv"

    assert find_splits(data) == {"train": data}
    assert find_shift(data, "later") == tmp_path / "later.csv"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), r"must have a file train with one of \['.csv', .*'.txt'\], got \[\]"),
        (
            ("train.csv", "val.csv"),
            r"must have both val and test, or neither, got \['train', 'val'\]",
        ),
        (("train.csv", "train.jsonl"), r"one file 'train', got \['train.csv', 'train.jsonl'\]"),
    ],
)
def test_splits_that_are_not_whole_are_named(tmp_path, names, words):
    with pytest.raises(InputError, match=words):
        find_splits(folder(tmp_path, *names))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: there must be a folder or file of data"):
        find_splits(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["twets", "val"])
def test_a_shift_without_a_file_is_named_with_those_there_are(tmp_path, name):
    data = folder(tmp_path, "train.csv", "val.csv", "test.csv", "tweets.csv")

    with pytest.raises(InputError, match=rf"unknown shift.*{name!r}, choose from \['tweets'\]"):
        find_shift(data, name)


def test_a_plain_text_is_one_row(tmp_path):
    (tmp_path / "a.txt").write_text("first\n\nlast\n")

    table = read_table(tmp_path / "a.txt", ["text"])

    assert table.texts("text") == ["first\n\nlast\n"]
    assert table.where(0).endswith("a.txt:1")
