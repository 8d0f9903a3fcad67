"""Alignment of imported nets through the command: the same after `kill -9` between them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from alignment_nets import random_state
from made_context import DIGITS
from projects import ProjectFolder, wait_until
from safetensors.torch import save_file
from torch import Tensor

from stockpot.soups.alignment.workload_nets import Aligner
from stockpot.storage.checkpoints import load_tensors

NUM_NETS = 6
SWEEP = {
    "import": "runs/*.safetensors",
    "align": "activations",
    "size": 0,
    "min_ingredients": 2,
    "precheck": {"on_fail": "warn"},
}


def write_nets(folder: Path) -> list[dict[str, Tensor]]:
    """Write nets with weights of their own, as if they had been trained apart."""
    folder.mkdir()
    net = DIGITS.build().build_model(torch.Generator().manual_seed(0))
    nets = [random_state(net, torch.Generator().manual_seed(seed)) for seed in range(NUM_NETS)]
    for number, state in enumerate(nets):
        save_file(state, folder / f"{number}.safetensors")
    return nets


def have_saved(count: int, project: ProjectFolder) -> bool:
    """Return whether so many models have been imported or aligned."""
    saved = (project.root / "checkpoints" / "ingredients").glob("[!.]*.safetensors")
    return len([*saved]) >= count


@pytest.mark.full
def test_a_sweep_killed_between_alignments_ends_with_the_bits_of_one_that_was_not(
    make_project: Callable[..., ProjectFolder],
) -> None:
    one_worker = {"devices": "cpu", "workers": 1}
    project = make_project("killed", sweep=SWEEP, base={"epochs": 1}, run=one_worker)
    nets = write_nets(project.root / "runs")
    base = project.stockpot("base")

    process = project.start("stockpot", "sweep")
    assert wait_until(partial(have_saved, NUM_NETS + 1, project), 120), process.poll()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert project.no_processes_left(5)
    assert not have_saved(2 * NUM_NETS - 1, project)
    assert not (project.root / "results" / "sweep.json").exists()
    sweep = project.stockpot("sweep")

    assert [base.code, sweep.code] == [0, 0], sweep.output
    first, *others = project.manifest("sweep")["ingredients"]
    assert "aligned" not in first
    workload = DIGITS.build()
    for model, net in zip(others, nets[1:], strict=True):
        expected = Aligner(workload, "cpu").align(nets[0], net, "activations")
        found = load_tensors(project.root / model["path"])
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
