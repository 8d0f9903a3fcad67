"""Soups that the workload cannot have are refused where params.yaml is planned."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stockpot.errors import InputError
from stockpot.experiment.opening import make_plan


@pytest.mark.parametrize("metric", ["first output", "accuracy"])
def test_racing_needs_a_metric_with_a_range(tmp_path: Path, metric: str) -> None:
    workload = {"name": "toy_workload:Toy", "options": {"metric": metric}}
    soups = [{"name": "raced", "select": "greedy", "risk": 0.05}]
    content = {"workload": workload, "sweep": {"size": 4, "space": {"epochs": 1}}, "soups": soups}
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(content))

    with pytest.raises(InputError, match=r"soups: 'raced': select: risk must be 0 .* got 0\.05"):
        make_plan(str(params), [])

    params.write_text(yaml.safe_dump(content | {"workload": {"name": "digits"}}))
    make_plan(str(params), [])
