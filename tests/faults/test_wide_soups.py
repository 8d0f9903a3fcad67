"""Trained nets side by side through the command: the same after `kill -9` between and in stages."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest
from projects import ProjectFolder, wait_until

SWEEP = {
    "size": 2,
    "min_ingredients": 2,
    "save_every_seconds": 0.001,
    "space": {"learning_rate": {"log_uniform": [1e-3, 1e-2]}, "epochs": 1},
}
WIDE = {"select": "top_k", "method": "concat"}
SOUPS = [
    WIDE | {"name": "grown", "k": 2, "options": {"epochs": 8, "templates": 2}},
    WIDE | {"name": "boosted", "k": 1, "options": {"epochs": 8, "stages": 2}},
]


def have(pattern: str, project: ProjectFolder) -> bool:
    return any((project.root / ".stockpot" / "partial").glob(pattern))


@pytest.mark.slow
def test_growth_and_boosting_killed_between_and_within_stages_end_like_those_that_were_not(
    make_project: Callable[..., ProjectFolder],
) -> None:
    undisturbed = make_project("whole", sweep=SWEEP, soups=SOUPS)
    project = make_project("killed", sweep=SWEEP, soups=SOUPS)
    runs = [undisturbed.stockpot(stage) for stage in ("base", "sweep", "soups")]
    runs += [project.stockpot(stage) for stage in ("base", "sweep")]

    for pattern in ("*-grown.part", "*-stage-1.safetensors", "*-stage-2.part"):
        process = project.start("stockpot", "soups")
        assert wait_until(partial(have, pattern, project), 120), process.poll()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert project.no_processes_left(5)
        assert not (project.root / "results" / "soups.json").exists()
    runs.append(project.stockpot("soups"))

    assert [run.code for run in runs] == [0] * 6, runs[-1].output
    found, expected = project.manifest("soups"), undisturbed.manifest("soups")
    assert found["soups"] == expected["soups"]
    assert [soup["num_nets"] for soup in found["soups"]] == [2, 3]
    assert not have("[!.]*", project)  # `stockpot gc` removes writes that were killed half-way
