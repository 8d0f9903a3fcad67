"""Phases through the command: the same after `kill -9` between and within them."""

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
    "save_every_seconds": 0.05,
    "space": {"learning_rate": {"log_uniform": [1e-3, 1e-2]}, "epochs": 6},
    "phases": [{"sparsity": 0.5}, {"sparsity": 0.7}, {"sparsity": 0.9}],
}


def have(number: int, pattern: str, project: ProjectFolder) -> bool:
    """Return whether the project has so many of such files."""
    return len([*project.root.glob(pattern)]) >= number


@pytest.mark.full
def test_a_sweep_killed_between_and_within_phases_ends_like_one_that_was_not(
    make_project: Callable[..., ProjectFolder],
) -> None:
    undisturbed, project = make_project("whole", sweep=SWEEP), make_project("killed", sweep=SWEEP)
    whole = [undisturbed.stockpot(stage) for stage in ("base", "sweep")]
    base = project.stockpot("base")

    # Within a run of the first phase; after that phase, whose average is the third model; within
    # the second phase.
    made = "checkpoints/ingredients/*.json"
    for number, pattern in ((1, ".stockpot/partial/*.safetensors"), (3, made), (4, made)):
        process = project.start("stockpot", "sweep")
        assert wait_until(partial(have, number, pattern, project), 120), process.poll()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert project.no_processes_left(5)
        assert not (project.root / "results" / "sweep.json").exists()
    last = project.stockpot("sweep")

    assert [run.code for run in (*whole, base, last)] == [0] * 4, last.output
    found, expected = project.manifest("sweep"), undisturbed.manifest("sweep")
    assert found["phases"] == expected["phases"]
    assert found["ingredients"] == expected["ingredients"]
    assert len(found["phases"]) == 2
    assert not [*project.root.glob(".stockpot/partial/*")]
