"""Notes on exceptions in a merge, on the terminal and in the model card."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stockpot.disk_merging.notes import equal_inputs
from tests.support.merge_files import State, language_model, merge, read_job, save_model

HEAD = "lm_head.weight"


def fine_tuned(seed: int) -> State:
    """Return the model of seed 0, a little changed."""
    return {
        name: tensor + 0.01 * language_model(seed)[name]
        for name, tensor in language_model(0).items()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, state in [("base", language_model(0)), ("a", fine_tuned(1)), ("b", fine_tuned(2))]:
        save_model(tmp_path / name, state)
    return tmp_path


def test_of_models_that_match_there_is_nothing_to_say(folder: Path) -> None:
    merge(folder, "method: ties\nmodels: [a, b]\nbase: base")

    assert read_job(folder, "method: ties\nmodels: [a, b]\nbase: base", "x").notes == []
    assert "Notes:" not in (folder / "merged" / "README.md").read_text()


def test_a_model_that_stands_there_twice_is_said_before_anything_is_read(folder: Path) -> None:
    notes = read_job(folder, "method: linear\nmodels: [a, b, ./a]").notes

    assert notes == ["models 0 and 2 are equal: one of them counts twice"]


def test_a_copy_of_a_model_is_said_once_it_is_read(folder: Path) -> None:
    shutil.copytree(folder / "a", folder / "copy")

    merge(folder, "method: linear\nmodels: [a, copy]")

    card = (folder / "merged" / "README.md").read_text()
    assert "- models 0 and 1 are equal: one of them counts twice" in card


def test_a_base_among_the_models_dilutes_task_vectors_alone(folder: Path) -> None:
    ties = read_job(folder, "method: ties\nmodels: [a, base]\nbase: base").notes
    linear = read_job(folder, "method: linear\nmodels: [a, base]\nbase: base").notes

    assert ties == ["model 1 is the base: its task vector is 0, which dilutes the average"]
    assert linear == []


def test_a_head_of_another_start_is_said(folder: Path) -> None:
    save_model(folder / "new-head", fine_tuned(3) | {HEAD: language_model(9)[HEAD]})

    [note] = read_job(folder, "method: linear\nmodels: [a, new-head]").notes

    assert note.startswith(f"{HEAD}: cosine between models as low as ")
    assert "not fine-tuned from the same initialisation" in note


def test_a_head_that_is_copied_is_not_looked_at(folder: Path) -> None:
    save_model(folder / "new-head", fine_tuned(3) | {HEAD: language_model(9)[HEAD]})

    notes = read_job(folder, "method: linear\nmodels: [a, new-head]\nexclude: [lm_head]").notes

    assert notes == [f"{HEAD}: excluded: copied from a"]


def test_many_tensors_of_one_exception_are_one_line(folder: Path) -> None:
    [note] = read_job(folder, "method: linear\nmodels: [a, b]\nexclude: [layers]").notes

    assert note.endswith(" and 3 more: excluded: copied from a")


def test_every_pair_of_equal_inputs_is_said() -> None:
    notes = equal_inputs(["x", "x", "y", "x"], "y", has_task_vectors=True)

    assert [note.split(" are")[0] for note in notes[:3]] == [
        "models 0 and 1",
        "models 0 and 3",
        "models 1 and 3",
    ]
    assert notes[3].startswith("model 2 is the base")


def test_an_output_inside_a_layer_is_no_head(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        weight = language_model(number)["model.layers.0.mlp.up_proj.weight"]
        save_model(tmp_path / name, {"encoder.layer.0.output.dense.weight": weight})

    assert read_job(tmp_path, "method: linear\nmodels: [a, b]").notes == []
