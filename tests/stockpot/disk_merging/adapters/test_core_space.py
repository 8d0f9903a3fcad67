"""Core Space: adapters merged as small matrices in common bases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from torch import Tensor
from torch.testing import assert_close

from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob
from stockpot.disk_merging.adapters.core_space import cores_of
from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.storage.weights.adapters import open_adapter

FILE = "models: [a, {path: b, coefficient: 0.5}]\noutput: adapter\ncore_space: true\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two adapters of different ranks and scalings, one with a convolution of its own."""
    save_adapter(tmp_path / "a", factors("x.0", randn(2, 7, seed=1), randn(8, 2, seed=2)))
    own = factors("conv", randn(3, 2, 3, 3, seed=5), randn(4, 3, 1, 1, seed=6))
    both = factors("x.0", randn(3, 7, seed=3), randn(8, 3, seed=4))
    save_adapter(tmp_path / "b", both | own, r=3, lora_alpha=9)
    return tmp_path


def _job(folder: Path, text: str, place: str = "merged") -> AdapterMergeJob:
    (folder / "merge.yaml").write_text(text)
    job = MergeJob.read(folder / "merge.yaml", folder / place)
    return AdapterMergeJob(job.file, job.folder, job.place)


def _change(folder: Path, name: str, module: str = "x.0") -> Tensor:
    """Return an adapter's change of a module, as a matrix in float64."""
    adapter = open_adapter(folder / name)
    change = adapter.changes[module]
    a, b = (adapter.weights.read(each).double().flatten(1) for each in (change.a, change.b))
    return change.scaling * b @ a


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_a_linear_merge_is_the_same_in_core_space(folder: Path, method: str) -> None:
    job = _job(folder, f"method: {method}\n{FILE}")
    job.check()

    merged = job.run()

    total = 1.5 if method == "linear" else 1.0
    expected = (_change(folder, "a") + 0.5 * _change(folder, "b")) / total
    assert_close(_change(folder, "merged"), expected, rtol=0, atol=1e-5)
    assert_close(
        _change(folder, "merged", "conv"),
        0.5 * _change(folder, "b", "conv") / total,
        rtol=0,
        atol=1e-5,
    )
    assert merged.ranks == {"x.0": 5, "conv": 3}


def test_a_single_adapter_is_returned(folder: Path) -> None:
    text = "method: ties\noptions: {density: 1}\nmodels: [a]\noutput: adapter\ncore_space: true\n"

    _job(folder, text).run()

    assert_close(_change(folder, "merged"), _change(folder, "a"), rtol=0, atol=1e-5)


def test_another_method_merges_the_cores_in_the_bases_of_all_factors(folder: Path) -> None:
    adapters = [open_adapter(folder / name) for name in "ab"]
    stacked = torch.cat([a.weights.read(a.changes["x.0"].b).double() for a in adapters], dim=1)
    scaled = stacked * torch.tensor([2.0, 2.0, 3.0, 3.0, 3.0]).double()
    rows = torch.cat([a.weights.read(a.changes["x.0"].a).double() for a in adapters])
    u = torch.linalg.svd(scaled, full_matrices=False)[0]
    v = torch.linalg.svd(rows, full_matrices=False)[2]
    cores = [{"core": u.T @ _change(folder, name) @ v.T} for name in "ab"]
    recipe = Recipe("ties", (1.0, 0.5), {"density": 0.4})
    base = {"core": torch.zeros(5, 5, dtype=torch.float64)}

    _job(folder, f"method: ties\noptions: {{density: 0.4}}\n{FILE}").run()

    expected = u @ merge_states(cores, recipe, base)["core"] @ v
    assert_close(_change(folder, "merged"), expected, rtol=0, atol=1e-5)


def test_a_core_is_as_small_as_the_sum_of_ranks(folder: Path) -> None:
    adapters = [open_adapter(folder / name) for name in "ab"]

    found = cores_of("x.0", adapters)

    assert [core.shape for core in found.cores] == [(5, 5), (5, 5)]
    assert_close(found.u @ found.cores[1] @ found.v, _change(folder, "b"), rtol=0, atol=1e-12)


def test_the_rank_of_the_result_can_be_limited_and_the_merge_rebuilt(folder: Path) -> None:
    job = _job(folder, f"method: dare_ties\nrank: 2\nseed: 3\n{FILE}")
    merged = job.run()

    again = AdapterMergeJob.rebuilding(
        folder / "merged" / "adapter_model.safetensors", folder / "again", folder
    )
    again.run()

    assert merged.ranks == {"x.0": 2, "conv": 2}
    assert read_pedigree(folder / "merged" / "adapter_model.safetensors")["core_space"] is True
    for module in ("x.0", "conv"):
        assert torch.equal(_change(folder, "again", module), _change(folder, "merged", module))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("method: ties\noutput: adapter\nmodels: [a, b]\n", "set core_space: true for others"),
        ("method: ties\nmodels: [a, b]\nbase: a\ncore_space: true\n", "core_space applies only to"),
        (f"method: regmean\n{FILE}", "regmean: needs data"),
        (f"method: slerp\n{FILE}", "slerp: option 't' is required"),
        (f"method: ties\noptions: {{density: [0.1, 1]}}\n{FILE}", "varies with depth"),
        (f"method: ties\noptions: {{lines_beta: 1}}\n{FILE}", "lines_beta varies with depth"),
    ],
)
def test_what_cannot_be_merged_in_core_space_is_refused(
    folder: Path, text: str, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        _job(folder, text).check()
