"""Ingredients trained with an adapter, which is saved next to them and determines them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
import yaml
from torch import Tensor
from torch.testing import assert_close

from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob
from stockpot.disk_merging.job import MergeJob
from stockpot.errors import InputError
from stockpot.experiment.garbage import delete, find_garbage
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.subspace import COORDINATES, expand
from stockpot.seeding import seeded_generator
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
from stockpot.storage.store import Store
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


def _train(root: Path, start: Model | None, kind: str = "ingredient", **values: object) -> Model:
    how = replace(HOW, **values)  # type: ignore[arg-type]
    checkpoint = start.checkpoint if start else None
    job = TrainingJob(
        root=root,
        workload=DIGITS,
        name=f"{kind}-{how.seed}",
        kind=kind,
        hyperparameters=how,
        start=checkpoint,
        threads=1,
        save_every_seconds=30.0,
    )
    model = make_model(job, "cpu")
    assert isinstance(model, Model)
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A project with a base."""
    root = tmp_path_factory.mktemp("adapters")
    return root, _train(root, None, "base", learning_rate=3e-3)


def _merged(root: Path, content: Mapping[str, object], place: Path) -> dict[str, Tensor]:
    """Do what `stockpot merge` does with a merge file."""
    file = place.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(content))
    job = MergeJob.read(file, place)
    if job.file.output == "adapter":
        AdapterMergeJob(job.file, root, place).run()
        return {}
    job.check()
    job.run(lambda _bytes: None)
    return load_tensors(place)


@pytest.mark.parametrize(
    "how",
    [
        {"adapter": "lora"},
        {"adapter": "dora", "average": "ema"},
        {"adapter": "miss", "adapter_rank": 7},
        {"adapter": "lora", "adapter_init": "eva", "patience": 1},
    ],
    ids=lambda how: " ".join(map(str, how.values())),
)
def test_the_base_merged_with_the_saved_adapter_is_the_ingredient(
    made: tuple[Path, Model], tmp_path: Path, how: dict[str, object]
) -> None:
    root, base = made
    model = _train(root, base, **how)
    folder = root / model.details["adapter"]

    content = {"method": "linear", "models": [str(folder)], "base": str(root / base.path)}
    merged = _merged(root, content, tmp_path / "merged.safetensors")

    ingredient = load_tensors(root / model.path)
    assert folder == (root / model.path).with_suffix(".adapter")
    assert_close(merged, ingredient, rtol=0, atol=1e-6)
    start = load_tensors(root / base.path)
    assert not torch.equal(ingredient["features.5.weight"], start["features.5.weight"])


@pytest.mark.parametrize("adapter", ["lora", "bone"])
def test_peft_loads_the_saved_adapter(made: tuple[Path, Model], adapter: str) -> None:
    root, base = made
    model = _train(root, base, adapter=adapter)
    net = DIGITS.build().build_model(seeded_generator(0))
    net.load_state_dict(load_tensors(root / base.path))

    loaded = peft.PeftModel.from_pretrained(net, root / model.details["adapter"])

    state = loaded.merge_and_unload().state_dict()
    assert_close(state, load_tensors(root / model.path), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ({"adapter": "bone"}, "MISS"),
        ({"adapter": "tucker"}, "TUCKER"),
        ({"subspace": 5, "learning_rate": 0.1}, "SUBSPACE"),
    ],
)
def test_what_is_no_lora_is_saved_and_merged_by_its_full_weights_only(
    made: tuple[Path, Model], tmp_path: Path, how: dict[str, object], kind: str
) -> None:
    root, base = made
    folder = root / _train(root, base, **how).details["adapter"]
    content = {"method": "linear", "models": [str(folder)], "base": str(root / base.path)}

    with pytest.raises(InputError, match=f"must be 'LORA', got '{kind}'; use the full weights"):
        _merged(root, content, tmp_path / "merged.safetensors")


def test_a_point_of_a_subspace_is_stored_as_coordinates_and_seed(
    made: tuple[Path, Model],
) -> None:
    root, base = made
    model = _train(root, base, subspace=5, learning_rate=0.1)
    folder = root / model.details["adapter"]
    config = json.loads((folder / "adapter_config.json").read_text())
    stored = load_tensors(folder / "adapter_model.safetensors")

    weights = expand(load_tensors(root / base.path), config, stored[COORDINATES])

    assert stored[COORDINATES].shape == (5,)
    ingredient = load_tensors(root / model.path)
    assert all(torch.equal(weights[name], tensor) for name, tensor in ingredient.items())


def test_the_mean_of_saved_adapters_is_the_mean_of_their_ingredients(
    made: tuple[Path, Model], tmp_path: Path
) -> None:
    root, base = made
    models = [_train(root, base, adapter="lora", seed=seed, adapter_rank=seed) for seed in (2, 3)]
    adapters = [str(root / model.details["adapter"]) for model in models]

    soup = {"method": "linear", "models": adapters, "output": "adapter"}
    _merged(root, soup, tmp_path / "soup")
    onto = {"method": "linear", "models": ["soup"], "base": str(root / base.path)}
    merged = _merged(root, onto, tmp_path / "merged.safetensors")

    one, other = (load_tensors(root / model.path) for model in models)
    expected = {name: (one[name] + other[name]) / 2 for name in one}
    assert json.loads((tmp_path / "soup" / "adapter_config.json").read_text())["r"] == 5
    assert_close(merged, expected, rtol=0, atol=1e-6)


def test_equal_jobs_save_equal_files(made: tuple[Path, Model], tmp_path: Path) -> None:
    root, base = made
    (tmp_path / base.path).parent.mkdir(parents=True)
    (tmp_path / base.path).write_bytes((root / base.path).read_bytes())

    one, other = (_train(folder, base, adapter="lora") for folder in (root, tmp_path))

    assert one == other
    for first in Store.adapter_files(root / one.path):
        assert first.read_bytes() == (tmp_path / first.relative_to(root)).read_bytes()


@pytest.mark.parametrize("lost", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_ingredient_whose_adapter_is_missing_is_trained_again(
    made: tuple[Path, Model], lost: str
) -> None:
    root, base = made
    model = _train(root, base, adapter="lora", seed=9)
    file = root / model.details["adapter"] / lost
    before = file.read_bytes()
    file.unlink()

    assert Store(root).find("ingredient", model.key, model.name) is None
    again = _train(root, base, adapter="lora", seed=9)

    assert again == model
    assert file.read_bytes() == before


def test_an_adapter_is_garbage_when_its_ingredient_is(
    made: tuple[Path, Model], tmp_path: Path
) -> None:
    _, base = made
    source = made[0] / base.path
    (tmp_path / base.path).parent.mkdir(parents=True)
    (tmp_path / base.path).write_bytes(source.read_bytes())
    named, other = (_train(tmp_path, base, adapter="lora", seed=seed) for seed in (1, 2))
    write_manifest(tmp_path, "base", {"base": base.to_json()})
    write_manifest(tmp_path, "sweep", {"ingredients": [named.to_json()], "failed": []})
    project = Project(tmp_path, tmp_path / "params.yaml")
    folder = tmp_path / other.details["adapter"]

    found = [path for path in find_garbage(project) if "predictions" not in path.parts]
    delete(found)

    weights = tmp_path / other.path
    assert set(found) >= {weights, weights.with_suffix(".json"), *Store.adapter_files(weights)}
    assert not folder.exists()
    assert len(Store.adapter_files(tmp_path / named.path)) == 2
