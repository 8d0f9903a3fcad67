"""Soups in Core Space: adapters of ingredients are merged, then applied to the base."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapter_folders import PREFIX, factors, randn
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from stockpot.config.soups import SoupSection
from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob
from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.reproduction import rebuild
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.storage.weights.adapters import open_adapter
from stockpot.workloads.spec import WorkloadSpec

WORKLOAD = WorkloadSpec("toy_workload:Layered", seed=0, options=(("closed", "test"),))
BASE = torch.tensor([[1.0, -0.5], [0.2, 0.8]])
CONFIG = {"peft_type": "LORA", "r": 1, "lora_alpha": 1}


def _ingredient(store: Store, number: int) -> Model:
    """Save an ingredient of rank 1 and its adapter."""
    a, b = randn(1, 2, seed=number), randn(2, 1, seed=10 + number)
    tensors = {PREFIX + name: tensor for name, tensor in factors("layer", a, b).items()}
    store.save_adapter("ingredient", f"k{number}", tensors, CONFIG)
    weights = {"layer.weight": BASE + b @ a}
    saved = store.save("ingredient", f"k{number}", f"ingredient-0{number}", weights, {})
    return saved.scored({"val/accuracy": 0.5})


@pytest.fixture
def job(tmp_path: Path) -> SoupJob:
    store = Store(tmp_path)
    base = store.save("base", "kb", "base", {"layer.weight": BASE}, {})
    return SoupJob(
        root=tmp_path,
        workload=WORKLOAD,
        name="soup",
        select="uniform",
        method="ties",
        options={"density": 0.5},
        core_space=True,
        base=base,
        seed=0,
        ingredients=tuple(_ingredient(store, number) for number in range(2)),
        metric="val/accuracy",
    )


def _weights(job: SoupJob, model: object) -> Mapping[str, Tensor]:
    assert isinstance(model, Model)
    return load_tensors(job.root / model.path)


def test_a_soup_is_the_base_with_the_adapter_that_a_merge_on_disk_makes(job: SoupJob) -> None:
    soup = make_model(job, "cpu")

    paths = [str((job.root / model.path).with_suffix(".adapter")) for model in job.ingredients]
    file = MergeFile(
        method="ties",
        models=[{"path": path, "coefficient": 0.5} for path in paths],  # type: ignore[list-item]
        options={"density": 0.5},
        output="adapter",
        core_space=True,
    )
    AdapterMergeJob(file, job.root, job.root / "merged").run()
    adapter = open_adapter(job.root / "merged")
    change = adapter.changes["layer"]
    expected = BASE + adapter.weights.read(change.b) @ adapter.weights.read(change.a)
    torch.testing.assert_close(_weights(job, soup)["layer.weight"], expected)


def test_the_mean_in_core_space_is_the_mean_of_the_weights(job: SoupJob) -> None:
    job = replace(job, method="linear", options={})

    cores = make_model(job, "cpu")

    plain = make_model(replace(job, core_space=False), "cpu")
    torch.testing.assert_close(_weights(job, cores), _weights(job, plain))
    assert isinstance(cores, Model)
    assert cores.details["recipe"]["core_space"] is True


def test_a_soup_is_rebuilt_from_its_record(job: SoupJob) -> None:
    soup = make_model(job, "cpu")
    assert isinstance(soup, Model)
    place = job.root / "again"
    place.mkdir()

    again = rebuild(job.provenance(soup), job.root, place, (), "cpu")

    assert again.digest == soup.digest


def test_an_ingredient_without_an_adapter_is_refused(job: SoupJob) -> None:
    shutil.rmtree((job.root / job.ingredients[1].path).with_suffix(".adapter"))

    with pytest.raises(InputError, match="core_space: needs ingredients with a LoRA adapter, got"):
        make_model(job, "cpu")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": "regmean"}, "needs a method that merges matrices without data, got 'regmean'"),
        ({"method": "concat"}, "needs a method that merges matrices without data, got 'concat'"),
        ({"masks": "union"}, "masks are not for core_space"),
    ],
)
def test_what_is_not_for_adapters_is_refused(changes: dict[str, str], reason: str) -> None:
    section = {"name": "s", "select": "uniform", "core_space": True, **changes}

    with pytest.raises(ValidationError, match=reason):
        TypeAdapter(SoupSection).validate_python(section)
