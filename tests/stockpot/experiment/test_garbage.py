from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from stockpot.errors import InputError
from stockpot.experiment import garbage
from stockpot.experiment.garbage import delete, find_garbage
from stockpot.experiment.plan import Plan
from stockpot.storage.manifests import manifest_path, read_manifest, write_manifest
from stockpot.storage.project import Project
from stockpot.storage.store import Store, remember_champion


def test_a_finished_experiment_has_no_garbage(finished: Plan) -> None:
    assert find_garbage(finished.project) == []


def test_models_that_no_manifest_names_are_garbage(plan: Plan) -> None:
    root = plan.project.root
    Store(root).save("soup", "old", "old", {"w": torch.ones(2)}, {})
    Store(root).save_failure("ingredient", "bad", "loss became nan")

    found = [path.relative_to(root).as_posix() for path in find_garbage(plan.project)]

    assert found == [
        "checkpoints/ingredients/bad.json",
        "checkpoints/soups/old.json",
        "checkpoints/soups/old.safetensors",
    ]


def test_a_model_that_has_been_champion_is_no_garbage(plan: Plan) -> None:
    root = plan.project.root
    champion = Store(root).save("soup", "old", "old", {"w": torch.ones(2)}, {})

    remember_champion(root, champion.path)

    assert find_garbage(plan.project) == []


def test_an_ingredient_that_left_the_sweep_is_garbage(plan: Plan) -> None:
    root = plan.project.root
    sweep = read_manifest(root, "sweep")
    dropped = sweep["ingredients"].pop()
    write_manifest(root, "sweep", sweep)

    found = find_garbage(plan.project)

    weights = root / dropped["path"]
    assert found == sorted([weights, weights.with_suffix(".json")])


def test_predictions_of_a_model_that_no_manifest_names_are_garbage(plan: Plan) -> None:
    folder = plan.project.state / "predictions"
    left = folder / f"{'0' * 64}.key.safetensors"
    left.write_text("")

    assert find_garbage(plan.project) == [left]


def test_of_passes_the_oldest_are_garbage_beyond_a_size(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = plan.project.state / "passes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = [folder / f"{name}.safetensors" for name in "bca"]
    for age, file in enumerate(files):
        file.write_bytes(b"x" * 10)
        os.utime(file, (1e9 - age, 1e9 - age))
    assert find_garbage(plan.project) == []

    monkeypatch.setattr(garbage, "_KEPT_BYTES", 25)

    assert find_garbage(plan.project) == files[2:]


def test_the_record_of_a_failure_that_a_manifest_names_is_kept(plan: Plan) -> None:
    root = plan.project.root
    Store(root).save_failure("ingredient", "bad", "loss became nan")
    failed = [{"key": "bad", "name": "ingredient-04", "final": True}]
    write_manifest(root, "sweep", read_manifest(root, "sweep") | {"failed": failed})

    assert find_garbage(plan.project) == []


@pytest.mark.parametrize(
    "left",
    [
        "checkpoints/base/.key.safetensors.0123abcd.tmp",
        ".stockpot/partial/key.safetensors",
        ".stockpot/rounds/key/state.safetensors",
        ".stockpot/scores/.key.json.0123abcd.tmp",
        ".stockpot/predictions/.key.safetensors.0123abcd.tmp",
        "results/.sweep.json.0123abcd.tmp",
        "results/plots/.shifts.csv.0123abcd.tmp",
    ],
)
def test_what_killed_runs_left_is_garbage(plan: Plan, left: str) -> None:
    path = plan.project.root / left
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half")

    assert find_garbage(plan.project) == [path]


def test_which_clients_were_lost_is_kept_since_a_run_would_not_lose_them_again(plan: Plan) -> None:
    path = plan.project.root / ".stockpot" / "rounds" / "key" / "lost.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")

    assert find_garbage(plan.project) == []


def test_what_was_prepared_of_a_model_that_no_manifest_names_is_garbage(plan: Plan) -> None:
    folder = plan.project.state / "preparations"
    folder.mkdir()
    kept, left = (folder / f"{d}.key.safetensors" for d in (plan.base().digest, "0" * 64))
    kept.write_text("")
    left.write_text("")

    assert find_garbage(plan.project) == [left]


def test_what_dvc_keeps_among_the_checkpoints_is_no_garbage(plan: Plan) -> None:
    (plan.project.root / "checkpoints" / ".gitignore").write_text("/base\n")

    assert find_garbage(plan.project) == []


def test_nothing_is_garbage_while_a_manifest_cannot_be_read(plan: Plan) -> None:
    manifest_path(plan.project.root, "sweep").write_text("{")

    with pytest.raises(InputError, match=r"results/sweep\.json: not a complete manifest"):
        find_garbage(plan.project)


def test_an_empty_project_has_no_garbage(tmp_path: Path) -> None:
    assert find_garbage(Project(tmp_path, tmp_path / "params.yaml")) == []


def test_delete_deletes_and_does_not_mind_what_is_gone(tmp_path: Path) -> None:
    there, gone, other = (tmp_path / name for name in ("there", "gone", "other"))
    there.write_text("x")
    other.write_text("x")

    delete([gone, there])

    assert list(tmp_path.iterdir()) == [other]
