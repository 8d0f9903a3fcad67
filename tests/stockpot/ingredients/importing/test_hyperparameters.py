from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockpot.errors import InputError
from stockpot.ingredients.importing.hyperparameters import find_hyperparameters


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "a" / "last.pt"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_without_a_file_there_are_no_hyperparameters(weights: Path) -> None:
    assert find_hyperparameters(weights) == {}
    assert find_hyperparameters(weights.parent) == {}


@pytest.mark.parametrize(
    ("place", "as_folder"),
    [
        ("a/last.json", False),
        ("a/hyperparameters.json", False),
        ("a/hyperparameters.json", True),
    ],
)
def test_a_json_file_next_to_the_weights_is_read(
    weights: Path, place: str, as_folder: bool
) -> None:
    (weights.parents[1] / place).write_text('{"lr": 0.1, "optimizer": "sgd"}')

    found = find_hyperparameters(weights.parent if as_folder else weights)

    assert found == {"lr": 0.1, "optimizer": "sgd"}


def test_the_nearest_file_wins(weights: Path) -> None:
    for name, rate in (("last.json", 1), ("hyperparameters.json", 2)):
        (weights.parent / name).write_text(json.dumps({"lr": rate}))
    (weights.parent / "hyperparameters.csv").write_text("file,lr\nlast.pt,3\n")

    assert find_hyperparameters(weights) == {"lr": 1}


@pytest.mark.parametrize(
    "content",
    [
        {"hyperparameters": {"lr": 1}, "loss": 2},
        {"digest": "a", "details": {"hyperparameters": {"lr": 1}}},
    ],
)
def test_of_a_file_only_the_mapping_of_hyperparameters_is_used(
    weights: Path, content: dict[str, object]
) -> None:
    (weights.parent / "last.json").write_text(json.dumps(content))

    assert find_hyperparameters(weights) == {"lr": 1}


def test_numbers_and_short_texts_are_hyperparameters(weights: Path) -> None:
    content = {
        "optimizer": {"name": "sgd", "lr": 0.1},
        "amp": True,
        "clip (norm)": 1,
        "layers": [1, 2],
        "note": None,
        "long": "x" * 501,
        "best": float("inf"),
    }
    (weights.parent / "last.json").write_text(json.dumps(content))

    assert find_hyperparameters(weights) == {
        "optimizer.name": "sgd",
        "optimizer.lr": 0.1,
        "amp": "true",
        "clip _norm_": 1,
        "best": "inf",
    }


@pytest.mark.parametrize("key", ["last.pt", "last", "a"])
@pytest.mark.parametrize("folder", ["a", "."])
def test_a_row_of_a_table_is_found_by_file_stem_or_folder(
    weights: Path, key: str, folder: str
) -> None:
    table = weights.parents[1] / folder / "hyperparameters.csv"
    table.write_text(f"file,lr,epochs,note\nother,9,9,9\n{key},1e-3,4,\n", encoding="utf-8-sig")

    assert find_hyperparameters(weights) == {"lr": 1e-3, "epochs": 4}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("last.json", "{", "not readable as JSON"),
        ("last.json", "[1]", "must be a mapping, got list"),
        (
            "hyperparameters.csv",
            "file,lr\nlast,1,2\n",
            "row 2: must have 2 cells, as the header, g",
        ),
        ("hyperparameters.csv", "file,lr\nlast,1\nlast,2\n", "each checkpoint once, got 'last' tw"),
        ("hyperparameters.csv", 'file,lr\n"last,1\n', "not readable as CSV"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(
    weights: Path, name: str, text: str, message: str
) -> None:
    (weights.parent / name).write_text(text)

    with pytest.raises(InputError, match=rf"{name}: .*{message}"):
        find_hyperparameters(weights)


def test_an_empty_table_has_no_row(weights: Path) -> None:
    (weights.parent / "hyperparameters.csv").write_text("")

    assert find_hyperparameters(weights) == {}
