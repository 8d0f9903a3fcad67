"""Texts from files and from data sets of the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_transformers import write_csv

from stockpot.errors import InputError
from stockpot.workloads.texts.text_data import FolderData, HubData, open_data

COLUMNS = ("text", "label")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "validation", "test"):
        write_csv(tmp_path / f"{split}.csv", [{"text": f"a {split}", "label": "3", "id": "1"}])
    return tmp_path


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    import datasets

    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def test_a_data_set_is_read_by_split(folder: Path) -> None:
    # Its library reads a folder as it reads a repository of the hub.
    tables = HubData(str(folder)).splits(COLUMNS)

    assert {name: table.texts("text") for name, table in tables.items()} == {
        "train": ["a train"],
        "val": ["a validation"],
        "test": ["a test"],
    }
    assert {*tables["val"].texts("label")} == {"3"}
    assert tables["val"].where(0).endswith("val: row 1")


def test_the_digest_of_a_data_set_is_of_its_content(folder: Path) -> None:
    digest, again = HubData(str(folder)).digest(), HubData(str(folder)).digest()
    write_csv(folder / "test.csv", [{"text": "another", "label": "3", "id": "1"}])

    assert again == digest
    assert HubData(str(folder)).digest() != digest


def test_columns_and_shifts_that_a_data_set_lacks_are_named(folder: Path) -> None:
    data = HubData(str(folder))

    with pytest.raises(InputError, match=r"train: must have a column 'texts', .*mean 'text'"):
        data.splits(["texts"])
    with pytest.raises(InputError, match=r"unknown shift in .* 'tweets'"):
        data.shift("tweets", COLUMNS)


@pytest.mark.parametrize(("kept", "ours"), [("validation", "val"), ("test", "test")])
def test_a_data_set_with_one_of_val_and_test_is_refused_as_a_folder_is(
    monkeypatch: pytest.MonkeyPatch, kept: str, ours: str
) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["a film"], "label": ["3"]})
    loaded = datasets.DatasetDict({"train": rows, kept: rows})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: loaded)
    data = HubData("someone/reviews")

    for read in (data.digest, lambda: data.splits(COLUMNS)):
        with pytest.raises(InputError, match="both val and test, or neither") as caught:
            read()
        assert str(sorted(["train", ours])) in str(caught.value)


def test_a_data_set_of_train_alone_is_split_later(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["a film"], "label": ["3"]})
    loaded = datasets.DatasetDict({"train": rows, "unsupervised": rows})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: loaded)

    assert [*HubData("someone/reviews").splits(COLUMNS)] == ["train"]


def test_a_data_set_out_of_reach_is_named() -> None:
    data = open_data("someone/reviews:small", [])

    assert data == HubData("someone/reviews", "small")
    with pytest.raises(InputError, match="or a dataset 'someone/reviews' on the hub"):
        data.digest()


def test_what_may_be_no_id_is_a_folder_or_file(folder: Path) -> None:
    assert open_data(str(folder / "train.csv"), []) == FolderData(folder / "train.csv")
    with pytest.raises(InputError, match=r"reviews\.csv: there must be a folder or file"):
        open_data("reviews.csv", [])
