"""The search for the intrinsic dimension, on known curves and on a few short runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stockpot.errors import InputError
from stockpot.experiment import intrinsic_dimension
from stockpot.experiment.intrinsic_dimension import (
    SubspaceRuns,
    num_weights,
    runs_of,
    search,
    val_score,
)
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.plan import Plan
from stockpot.ingredients.finetuning import loop
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.storage.code_keys import imported_code
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

DIGITS = WorkloadSpec("digits", 0, (), (), ())
HOW = Hyperparameters(
    learning_rate=1e-2,
    weight_decay=0.0,
    epochs=1,
    batch_size=100,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
)


def _counted(curve: Callable[[int], float]) -> tuple[Callable[[int], float], list[int]]:
    asked: list[int] = []

    def score_of(dimension: int) -> float:
        asked.append(dimension)
        return curve(dimension)

    return score_of, asked


@pytest.mark.parametrize("needed", [1, 2, 7, 100, 750, 36_000])
def test_the_smallest_dimension_of_the_grid_that_reaches_the_target_is_found(needed: int) -> None:
    score_of, asked = _counted(lambda dimension: 0.9 if dimension >= needed else 0.5)

    found = search(score_of, 0.1, 0.95, 36_689, of_gain=False)

    assert found.target == pytest.approx(0.855)
    assert found.found is not None
    assert needed <= found.found <= math.ceil(needed * math.sqrt(2)) + 1
    assert found.is_monotone
    assert len(asked) <= 7  # log2 of 32 dimensions, and the two neighbours
    assert len({*asked}) == len(asked)


def test_where_the_base_is_good_enough_nothing_is_trained() -> None:
    score_of, asked = _counted(lambda _: 0.0)

    found = search(score_of, 0.9, 0.95, 1000, of_gain=False)

    assert (found.found, asked) == (0, [])


def test_the_share_of_the_gain_needs_more_than_that_of_the_score() -> None:
    score_of, _ = _counted(lambda dimension: -2.0 if dimension >= 64 else -9.0)

    found = search(score_of, -10.0, -1.5, 1000, of_gain=True)

    assert found.target == pytest.approx(-2.35)
    assert found.found == 64


def test_where_no_subspace_is_enough_there_is_no_dimension() -> None:
    found = search(lambda _: 0.2, 0.1, 0.95, 100, of_gain=False)

    assert found.found is None
    assert found.is_monotone


def test_scores_that_fall_with_the_dimension_are_noticed() -> None:
    found = search(lambda dimension: 0.9 if dimension == 11 else 0.5, 0.1, 0.95, 100, of_gain=False)

    assert found.found == 11
    assert found.scores[16] == 0.5
    assert not found.is_monotone


def test_a_run_that_diverged_does_not_reach_the_target_and_is_listed() -> None:
    found = search(lambda size: 0.9 if size > 40 else -math.inf, 0.1, 0.95, 100, of_gain=False)

    assert found.found == 45
    assert found.is_monotone
    assert found.diverged == [size for size in found.scores if 0 < size <= 40]
    assert 32 in found.diverged


def test_a_share_of_a_negative_score_is_refused() -> None:
    with pytest.raises(InputError, match=r"needs a metric above 0, got -1\.5; take the share"):
        search(lambda _: 0.0, -10.0, -1.5, 100, of_gain=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A base that has learned little."""
    root = tmp_path_factory.mktemp("subspaces")
    job = TrainingJob(
        root=root,
        workload=DIGITS,
        name="base",
        kind="base",
        hyperparameters=HOW,
        start=None,
        threads=1,
        save_every_seconds=30.0,
    )
    model = make_model(job, "cpu")
    assert isinstance(model, Model)
    return root, model


def test_runs_train_in_subspaces_of_the_base_and_are_done_once(
    base: tuple[Path, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, model = base
    runs = SubspaceRuns(root, DIGITS, model.checkpoint, HOW, 1)
    total = num_weights(runs, "cpu")

    found = {size: val_score(runs, size, total, "cpu") for size in (2, 300, total)}
    monkeypatch.setattr(loop, "fine_tune", None)
    again = {size: val_score(runs, size, total, "cpu") for size in (2, 300, total)}
    scores = {size: result.score for size, result in found.items()}

    assert total == 36_690
    assert again == found
    assert model.scores["val/accuracy"] - 0.05 < scores[2] < scores[total]
    assert scores[300] < scores[total]


def test_a_run_that_diverges_is_marked_once(
    base: tuple[Path, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = SubspaceRuns(base[0], DIGITS, base[1].checkpoint, replace(HOW, learning_rate=1e8), 1)

    found = val_score(runs, 9, 36_690, "cpu")
    monkeypatch.setattr(loop, "fine_tune", None)

    assert found.score == -math.inf
    assert found.diverged.startswith("loss became")
    assert val_score(runs, 9, 36_690, "cpu") == found


def test_the_key_of_a_run_has_its_learning_rate_and_the_code_of_scores(
    base: tuple[Path, Model],
) -> None:
    runs = SubspaceRuns(base[0], DIGITS, base[1].checkpoint, HOW, 1)

    how = runs.how_in(25, 100)

    assert how.learning_rate == pytest.approx(2 * HOW.learning_rate)
    assert runs.how_in(100, 100) == HOW
    assert runs.file(how) != runs.file(replace(how, learning_rate=HOW.learning_rate))
    assert "stockpot.scoring.val_scores" in imported_code(*intrinsic_dimension._MODULES)


def _plan(root: Path, model: Model, **details: Any) -> Plan:
    ingredient = Model(**{**_fields(model), "name": "ingredient-00", "details": details})
    return cast(
        "Plan",
        SimpleNamespace(
            ingredients=lambda: (ingredient,),
            base=lambda: model,
            metric="val/accuracy",
            project=SimpleNamespace(root=root),
            workload=DIGITS,
            experiment=SimpleNamespace(run=SimpleNamespace(threads=1)),
        ),
    )


def _fields(model: Model) -> dict[str, Any]:
    return {name: getattr(model, name) for name in Model.__dataclass_fields__}


def test_hyperparameters_are_those_of_the_best_ingredient_without_adapter(
    base: tuple[Path, Model],
) -> None:
    how = {**HOW.described(), "epochs": 3, "adapter": "lora", "subspace": 9}

    runs, start = runs_of(_plan(*base, hyperparameters=how), None)

    assert start == base[1]
    assert runs.base == base[1].checkpoint
    assert (runs.how.epochs, runs.how.adapter, runs.how.subspace) == (3, "none", 0)


@pytest.mark.parametrize(
    ("details", "name"), [({}, None), ({"hyperparameters": HOW.described()}, "ingredient-09")]
)
def test_without_an_ingredient_of_that_name_there_is_nothing_to_measure(
    base: tuple[Path, Model], details: dict[str, Any], name: str | None
) -> None:
    with pytest.raises(InputError, match="ingredient: must be one that was fine-tuned here"):
        runs_of(_plan(*base, **details), name)
