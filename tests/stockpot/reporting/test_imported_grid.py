from __future__ import annotations

from dataclasses import replace

from judged_results import judged_results

from stockpot.reporting.results import Results
from stockpot.reporting.tables.model_grids import imported_grid, ingredients_grid


def with_an_imported_one() -> Results:
    """Return results whose first ingredient was imported, and whose second was trained with SGD."""
    results = judged_results()
    first, second, *others = results.sweep["ingredients"]
    first = {**first, "hyperparameters": {"lr": 0.5}, "source": "runs/a.pt"}
    first["imported"] = {"digest": "0123456789abcdef0123", "notes": ["one note", "another"]}
    second = {**second, "hyperparameters": second["hyperparameters"] | {"optimizer": "sgd"}}
    return replace(results, sweep=results.sweep | {"ingredients": [first, second, *others]})


def texts(grid: object, row: int) -> dict[str, str]:
    cells = [cell.text for cell in grid.rows[row]]  # type: ignore[attr-defined]
    return dict(zip(grid.columns, cells, strict=True))  # type: ignore[attr-defined]


def test_imported_models_are_listed_with_file_and_notes() -> None:
    grid = imported_grid(with_an_imported_one())

    assert len(grid.rows) == 1
    assert texts(grid, 0) == {
        "model": "ingredient-00",
        "source": "runs/a.pt",
        "SHA-256, first digits": "0123456789abcdef",
        "notes": "one note; another",
    }


def test_there_is_no_list_where_nothing_was_imported() -> None:
    assert imported_grid(judged_results()).rows == []


def test_only_known_settings_of_an_imported_model_are_shown() -> None:
    grid = ingredients_grid(with_an_imported_one())

    imported, sgd, adamw = (texts(grid, row) for row in range(3))
    assert (imported["lr"], imported["optimizer"], imported["learning rate"]) == ("0.5", "-", "-")
    assert (sgd["lr"], sgd["optimizer"], adamw["optimizer"]) == ("-", "sgd", "adamw")
