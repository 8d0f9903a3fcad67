"""Rounds of clients through the command: recorded, and the same after `kill -9` at any moment."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from projects import ProjectFolder, wait_until

ROUNDS = [
    {
        "name": "scaffold",
        "rule": "scaffold",
        "rounds": 4,
        "clients": 3,
        "participation": [1, 0.8, 0.6],
    },
    {"name": "gossip", "rule": "gossip", "rounds": 3, "clients": 3, "start": "random"},
]
SWEEP = {"size": 1, "min_ingredients": 2, "space": {"epochs": 1}, "rounds": ROUNDS}


def have(number: int, pattern: str, project: ProjectFolder) -> bool:
    """Return whether so many ingredients have such a file."""
    found = (project.root / ".stockpot" / "rounds").glob(f"*/{pattern}")
    return len({path.parent for path in found}) >= number


KILLER = '''"""Digits of which one example of train ends every process that trains on it."""

import os
import signal

import torch

from stockpot.workloads.digits import Digits


class Fatal(Digits):
    def augment(self, batch, strength, generator):
        fatal = self.dataset("train").tensors[0][0]
        if any(torch.equal(image, fatal) for image in batch[0]):
            os.kill(os.getpid(), signal.SIGKILL)
        return batch
'''


@pytest.mark.full
def test_a_client_that_kills_its_workers_is_left_out_of_its_rounds(
    make_project: Callable[..., ProjectFolder],
) -> None:
    rounds = {"rule": "fedavg", "clients": 3, "client": {"augmentation": 0.1, "batch_size": 512}}
    sweep = {
        "size": 0,
        "min_ingredients": 1,
        "rounds": [
            {"name": "longer", "rounds": 2, **rounds},
            {"name": "shorter", "rounds": 1, **rounds},
        ],
    }
    project = make_project("fatal", sweep=sweep)
    (project.root / "fatal.py").write_text(KILLER, encoding="utf-8")
    project.change_params(workload={"name": "fatal:Fatal"})
    base = project.stockpot("base")

    run = project.stockpot("sweep")
    longer, shorter = project.manifest("sweep")["ingredients"]
    again = project.stockpot("reproduce", "rounds-longer")

    assert [base.code, run.code, again.code] == [0, 0, 0], run.output + again.output
    [[lost]] = shorter["rounds"]["lost"].values()
    assert longer["rounds"]["lost"] == {"1": [lost], "2": [lost]}
    assert [participants for participants, _ in longer["history"]] == [2, 2]
    assert longer["history"][:1] == shorter["history"]
    recorded = [run.name for run in project.mlflow_runs() if "-round-" in run.name]
    assert sorted(recorded) == ["rounds-longer-round-002", "rounds-shorter-round-001"]


@pytest.mark.full
def test_a_sweep_killed_between_and_within_rounds_ends_like_one_that_was_not(
    make_project: Callable[..., ProjectFolder],
) -> None:
    undisturbed, project = make_project("whole", sweep=SWEEP), make_project("killed", sweep=SWEEP)
    whole = [undisturbed.stockpot(stage) for stage in ("base", "sweep")]
    base = project.stockpot("base")

    # Within a round; after one; after one of the second ingredient.
    for number, pattern in ((1, "update-2-*"), (1, "round-3.json"), (2, "round-1.json")):
        process = project.start("stockpot", "sweep")
        assert wait_until(partial(have, number, pattern, project), 120), process.poll()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert project.no_processes_left(5)
    last = project.stockpot("sweep")

    assert [run.code for run in (*whole, base, last)] == [0] * 4, last.output
    ingredients = project.manifest("sweep")["ingredients"]
    assert ingredients == undisturbed.manifest("sweep")["ingredients"]
    assert [one["name"] for one in ingredients[1:]] == ["rounds-scaffold", "rounds-gossip"]
    for each in (project, undisturbed):
        recorded = Counter(run.name for run in each.mlflow_runs() if "-round-" in run.name)
        expected = [f"rounds-scaffold-round-{n:03d}" for n in (1, 2, 3, 4)]
        expected += [f"rounds-gossip-round-{n:03d}" for n in (1, 2, 3)]
        assert recorded == Counter(expected)
