"""Techniques that exclude each other are refused where params.yaml is planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stockpot.errors import InputError
from stockpot.experiment.opening import make_plan


def _plan(
    folder: Path,
    space: dict[str, Any],
    listed: list[dict[str, Any]] | None = None,
    **fields: dict[str, Any],
) -> None:
    sweep: dict[str, Any] = {"size": 4, "min_ingredients": 1, "space": space, **fields}
    if listed:
        sweep |= {"search": "list", "list": listed, "size": len(listed)}
    content = {
        "workload": {"name": "digits"},
        "sweep": sweep,
        "soups": [{"name": "uniform", "select": "uniform"}],
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    make_plan(str(folder / "params.yaml"), [])


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"subspace": 10, "compander": 1.2}, "compander: must be 0.0 with subspace"),
        ({"subspace": 10, "adapter": {"choice": ["lora", "dora"]}}, "adapter: must be 'none'"),
        ({"bag_size": 4, "batch_size": 30}, "batch_size: must be a multiple of"),
        ({"bag_size": 4, "batch_size": 32, "mixup": 0.2}, "mixup: must be 0.0 with bag_size"),
        ({"adapter": "tucker", "adapter_init": "eva"}, "'default' for tucker"),
        ({"compander": 1.2, "average": "ema"}, "average: must be 'none' with compander, which"),
        (
            {"adapter": "tucker", "average": {"choice": ["swa", "lawa"]}},
            "average: must be 'none' with adapter tucker, the mean of whose factors",
        ),
        ({"subspace": 10, "start_l2": 0.1}, "start_l2: must be 0.0 with subspace"),
        ({"shards": 2, "shard": {"integer": [1, 4]}}, "shard: must be at most shards, 2, got"),
        (
            {"compander": 1.2, "anchor": "base", "anchor_loss": "l2"},
            "anchor_loss: distances of weights need",
        ),
    ],
)
def test_a_sweep_that_combines_them_is_not_planned(
    tmp_path: Path, space: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=rf"sweep: ingredient-0\d: .*{expected}"):
        _plan(tmp_path, space)


def test_each_listed_ingredient_is_checked(tmp_path: Path) -> None:
    listed = [{"subspace": 5.0}, {"subspace": 5.0, "layer_decay": 0.5}]

    with pytest.raises(InputError, match=r"ingredient-01: layer_decay: must be 1.0 with subspace"):
        _plan(tmp_path, {"learning_rate": 0.1}, listed)


def test_the_runs_of_a_reference_are_checked(tmp_path: Path) -> None:
    space = {"learning_rate": 0.1, "anchor": "soup"}
    reference = {"space": {"learning_rate": 0.1, "compander": 1.2, "average": "ema"}}

    with pytest.raises(InputError, match=r"sweep: reference-00: average: must be 'none' with"):
        _plan(tmp_path, space, reference=reference)


@pytest.mark.parametrize(
    "space",
    [
        {"subspace": {"choice": [0, 10]}, "learning_rate": 0.1},
        {"bag_size": 4, "batch_size": 32, "rho": {"uniform": [0, 1]}},
        {"adapter": "tucker", "compander": 0},
        {"adapter": {"choice": ["none", "lora", "dora"]}, "adapter_init": "eva"},
    ],
)
def test_those_that_go_together_are_planned(tmp_path: Path, space: dict[str, Any]) -> None:
    _plan(tmp_path, space)
