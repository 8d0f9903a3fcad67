"""The order of checkpoints along a run: known from their records, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from stockpot.errors import InputError
from stockpot.soups.run_order import in_run_order
from stockpot.storage.models import Model


def _model(name: str, **details: Any) -> Model:
    return Model(name, "ingredient", name, name, "", 0, 0, details=details)


def _trained(name: str, seed: int = 0, **details: Any) -> Model:
    return _model(name, hyperparameters={"epochs": 12, "seed": seed}, **details)


def _imported(name: str, **known: Any) -> Model:
    return _model(name, imported={}, hyperparameters=known)


def _order(*models: Model) -> list[str]:
    return [model.name for model in in_run_order("wsm", models)]


def test_the_end_of_a_run_comes_after_its_snapshots() -> None:
    models = [_trained("run"), _trained("run-epoch-9", epoch=9), _trained("run-epoch-3", epoch=3)]

    assert _order(*models) == ["run-epoch-3", "run-epoch-9", "run"]


def test_imported_checkpoints_are_ordered_by_their_recorded_step() -> None:
    assert _order(_imported("a-1", step=900), _imported("b-2", step=30.0)) == ["b-2", "a-1"]


def test_imported_checkpoints_are_ordered_by_the_last_number_of_their_names() -> None:
    models = [_imported("imported-v2-checkpoint-1000"), _imported("imported-v2-checkpoint-500")]

    assert _order(*models) == ["imported-v2-checkpoint-500", "imported-v2-checkpoint-1000"]


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ([_trained("a"), _trained("b", seed=1)], "merges checkpoints of one run, got models of"),
        ([_trained("a"), _imported("b-1")], "got imported ones and others in"),
        ([_trained("a"), _trained("b", rounds=[])], "got models of several runs"),
        ([_imported("a-1"), _imported("b-1")], r"got \['a-1', 'b-1'\], which are both of step 1"),
        (
            [_model("a", hyperparameters={"epochs": 9, "patience": 2})],
            "must know the step .* for a",
        ),
        ([_imported("a"), _imported("b-1")], "must know the step of each checkpoint, got none for"),
    ],
)
def test_what_has_no_known_order_is_refused(models: list[Model], reason: str) -> None:
    with pytest.raises(InputError, match=f"^wsm: .*{reason}"):
        in_run_order("wsm", models)
