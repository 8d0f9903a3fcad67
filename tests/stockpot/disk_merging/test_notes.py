"""Notes on exceptions in a merge, on the terminal and in the model card."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from stockpot.disk_merging.notes import equal_inputs
from stockpot.errors import InputError
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

    assert notes == ["equal models: a, a; their weights count 2 times"]


def test_a_copy_of_a_model_is_said_once_it_is_read(folder: Path) -> None:
    shutil.copytree(folder / "a", folder / "copy")

    merge(folder, "method: linear\nmodels: [a, copy]")

    card = (folder / "merged" / "README.md").read_text()
    assert "- equal models: a, copy; their weights count 2 times" in card


def test_a_base_among_the_models_dilutes_task_vectors_alone(folder: Path) -> None:
    ties = read_job(folder, "method: ties\nmodels: [a, base]\nbase: base").notes
    linear = read_job(folder, "method: linear\nmodels: [a, base]\nbase: base").notes

    assert ties == ["base is the base: its task vector is 0, which dilutes the average"]
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


def test_equal_inputs_are_one_line_however_many() -> None:
    names = [f"m{number}" for number in range(100)]

    notes = equal_inputs(names, [0, 0, 1, 2, 2] + [0] * 95, 1, has_task_vectors=True)

    assert notes == [
        "equal models: m0, m1, m5 and 94 more; their weights count 97 times",
        "equal models: m3, m4; their weights count 2 times",
        "m2 is the base: its task vector is 0, which dilutes the average",
    ]


def test_the_number_formats_of_all_models_are_one_line_with_the_output_s(folder: Path) -> None:
    half = {name: tensor.bfloat16() for name, tensor in language_model(0).items()}
    save_model(folder / "half", half)

    [note] = read_job(folder, "method: linear\nmodels: [a, b]\nbase: half").notes

    assert note.endswith(
        "more: float32 in a, b; bfloat16 in half: merged in the widest, stored in bfloat16"
    )


def test_checkpoints_of_two_runs_are_told_apart_in_messages(folder: Path) -> None:
    for run, state in [("one", fine_tuned(1)), ("two", fine_tuned(2) | {"x": torch.ones(2)})]:
        (folder / run).mkdir()
        save_model(folder / run / "checkpoint-500", state)
    job = read_job(folder, "method: linear\nmodels: [one/checkpoint-500, two/checkpoint-500]")

    with pytest.raises(
        InputError, match=r"^merge.yaml: one/checkpoint-500: lacks x, which two/checkpoint-500"
    ):
        job.check()


def test_an_output_inside_a_layer_is_no_head(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        weight = language_model(number)["model.layers.0.mlp.up_proj.weight"]
        save_model(tmp_path / name, {"encoder.layer.0.output.dense.weight": weight})

    assert read_job(tmp_path, "method: linear\nmodels: [a, b]").notes == []
