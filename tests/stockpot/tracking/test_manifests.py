from __future__ import annotations

from typing import Any

import pytest

from stockpot.tracking.manifests import record_from_manifest
from stockpot.tracking.records import Dataset, ModelRecord

KEYS = {"base": "key-base", "ingredient-00": "key-0", "ingredient-01": "key-1"}
SCORES = {"val/accuracy": 0.97, "val/loss": 0.1}


def entry(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """An entry of a manifest, as the stages write it."""
    return {
        "name": name,
        "kind": kind,
        "key": f"key-{name}",
        "digest": "ab" * 32,
        "path": f"checkpoints/{name}.safetensors",
        "bytes": 160,
        "num_params": 40,
        "scores": SCORES,
    } | more


def test_ingredient_has_its_hyperparameters_and_comes_from_the_base() -> None:
    model = entry("ingredient-00", "ingredient", hyperparameters={"epochs": 3, "mixup": 0.0})

    record = record_from_manifest(
        model, keys=KEYS, datasets=[Dataset("digits", "cd", "val")], seconds=2.5
    )

    assert record == ModelRecord(
        name="ingredient-00",
        kind="ingredient",
        key="key-ingredient-00",
        digest="ab" * 32,
        path="checkpoints/ingredient-00.safetensors",
        params={"epochs": 3, "mixup": 0.0},
        metrics={**SCORES, "cost/bytes": 160, "cost/num_params": 40},
        inputs=("key-base",),
        datasets=(Dataset("digits", "cd", "val"),),
        seconds=2.5,
    )


def test_base_has_no_inputs() -> None:
    record = record_from_manifest(entry("base", "base", hyperparameters={"epochs": 3}), keys=KEYS)

    assert (record.kind, record.inputs, record.note) == ("base", (), "")


def test_failed_ingredient_has_its_reason() -> None:
    failed = {
        "name": "ingredient-07",
        "key": "key-7",
        "hyperparameters": {"epochs": 3},
        "reason": "loss became nan at step 12 of 330",
    }

    record = record_from_manifest(failed, keys=KEYS)

    assert (record.kind, record.status, record.metrics) == ("ingredient", "FAILED", {})
    assert record.reason == "loss became nan at step 12 of 330"
    assert record.note == "**Failed:** loss became nan at step 12 of 330"


def test_soup_has_recipe_coefficients_curve_and_only_the_used_ingredients_as_inputs() -> None:
    model = entry(
        "ties soup",
        "soup",
        recipe={"name": "ties", "select": "greedy", "method": "ties", "options": {"density": 0.2}},
        coefficients={"ingredient-00": 1.0},  # of two that it could be made from
        steps=[
            {"ingredient": "ingredient-00", "score": 0.9, "accepted": True, "best": 0.9},
            {"ingredient": "ingredient-01", "score": 0.8, "accepted": False, "best": 0.9},
        ],
    )

    record = record_from_manifest(model, keys=KEYS)

    assert list(record.params.items()) == [
        ("select", "greedy"),
        ("method", "ties"),
        ("options.density", 0.2),
        ("num_ingredients", 1),
        ("coefficient/ingredient-00", 1.0),
        ("coefficient/ingredient-01", 0.0),
    ]
    assert record.tags == {"stockpot.recipe": "ties"}
    assert record.inputs == ("key-0",)
    assert record.curves == {"greedy/best_score": (0.9, 0.9)}
    assert record.note.splitlines() == [
        "Merged from 1 of 2 ingredients.",
        "",
        "| ingredient | coefficient |",
        "|---|---|",
        "| ingredient-00 | 1 |",
    ]


def test_tuned_soup_has_the_best_value_so_far_of_each_objective() -> None:
    model = entry(
        "tuned",
        "tuned",
        recipe={"name": "tuned", "objectives": ["val", "val_shift"], "trials": 3, "top_k": None},
        coefficients={"ingredient-00": 0.25, "ingredient-01": 0.75},
        trials=[
            {"number": 0, "values": [0.9, 0.5], "source": "uniform"},
            {"number": 1, "values": [0.8, 0.7], "source": "sampler"},
            {"number": 2, "values": [0.95, 0.6], "source": "sampler"},
        ],
    )

    record = record_from_manifest(model, keys=KEYS)

    assert record.curves == {
        "tuning/best_val": (0.9, 0.9, 0.95),
        "tuning/best_val_shift": (0.5, 0.7, 0.7),
    }
    assert record.params["objectives"] == "val, val_shift"
    assert "top_k" not in record.params


def test_note_lists_at_most_a_hundred_ingredients() -> None:
    names = [f"ingredient-{number:03d}" for number in range(120)]
    model = entry("uniform", "soup", recipe={"name": "u"}, coefficients=dict.fromkeys(names, 0.1))

    record = record_from_manifest(model, keys=dict.fromkeys(names, "key"))

    assert len(record.note) < 8000
    assert record.note.splitlines()[-1] == "| 20 more | |"


def test_missing_key_of_an_ingredient_is_an_error() -> None:
    model = entry("soup", "soup", recipe={"name": "u"}, coefficients={"ingredient-09": 1.0})

    with pytest.raises(KeyError, match="ingredient-09"):
        record_from_manifest(model, keys=KEYS)
