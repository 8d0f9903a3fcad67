"""mergekit-multi's files: several merges that name each other, as one merge."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from merge_files import language_model, merge, save_model

from stockpot.disk_merging.merge_files.mergekit_form import load_merge, model_paths
from stockpot.errors import InputError

STAGES = """
name: first-merge
merge_method: linear
models:
  - {model: a, parameters: {weight: 0.5}}
  - {model: b, parameters: {weight: 0.25}}
---
# The order of the documents does not matter.
merge_method: task_arithmetic
base_model: a
models:
  - {model: second-merge, parameters: {weight: 0.5}}
  - {model: first-merge+lora, parameters: {weight: 0.3}}
dtype: float32
---
name: second-merge
merge_method: slerp
base_model: first-merge
models: [{model: c}]
parameters: {t: 0.25}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abc"):
        save_model(tmp_path / name, language_model(seed, num_layers=1), model_type="llama")
    adapter = factors("lm_head", randn(2, 4, seed=1), randn(6, 2, seed=2))
    save_adapter(tmp_path / "lora", adapter)
    return tmp_path


def test_stages_have_the_bits_of_merges_one_after_the_other(folder: Path) -> None:
    at_once = merge(folder, STAGES, "once")

    first, last, second = STAGES.split("---")
    merge(folder, first.partition("merge\n")[2], "first-merge")
    merge(folder, second.partition("merge\n")[2], "second-merge")
    one_by_one = merge(folder, last, "twice")
    assert at_once.keys() == one_by_one.keys()
    assert all(torch.equal(at_once[name], one_by_one[name]) for name in at_once)


def test_without_a_nameless_document_the_last_one_is_the_output(tmp_path: Path) -> None:
    path = tmp_path / "merge.yaml"
    named = "name: {}\nmerge_method: linear\nmodels: [{{model: {}, parameters: {{weight: 1}}}}]\n"
    path.write_text("---\n".join(named.format(*pair) for pair in (("x", "a"), ("y", "b"))) + "---")

    file = load_merge(path)

    assert [entry.path for entry in file.entries] == ["b"]
    assert file.ignored == ("x is not part of the output and not made",)


def test_the_models_on_disk_are_those_that_are_no_stages(folder: Path) -> None:
    (folder / "merge.yaml").write_text(STAGES)

    assert {path.name for path in model_paths(folder / "merge.yaml")} == {"a", "b", "c"}


def test_layers_may_come_from_a_stage(folder: Path) -> None:
    text = (
        STAGES.split("---", maxsplit=1)[0]
        + """
---
merge_method: passthrough
slices:
  - sources: [{model: first-merge, layer_range: [0, 1]}]
  - sources: [{model: c, layer_range: [0, 1]}]
"""
    )
    merged = merge(folder, text)

    expected = merge(folder, STAGES.split("---", maxsplit=1)[0].partition("merge\n")[2], "first")
    name = "model.layers.{}.mlp.up_proj.weight"
    assert torch.equal(merged[name.format(0)], expected[name.format(0)])
    assert torch.equal(merged[name.format(1)], language_model(2)[name.format(0)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: x\nmerge_method: linear\nmodels: [{model: y}]\n---\n"
            "name: y\nmerge_method: linear\nmodels: [{model: x}]",
            "'y' merges 'x' merges 'y'; remove one of these references",
        ),
        (
            "merge_method: linear\nmodels: [{model: a}]\n---\n"
            "merge_method: linear\nmodels: [{model: b}]",
            "one document must be without a name, got several",
        ),
        (
            "name: x\nmerge_method: linear\nmodels: [{model: a}]\n---\n"
            "name: x\nmerge_method: linear\nmodels: [{model: a}]",
            "one document must be with the name 'x', got several",
        ),
        (
            "method: linear\nmodels: [a]\n---\nmethod: linear\nmodels: [b]",
            "document 1 has no merge_method; only a file in mergekit's format has several",
        ),
        (
            "name: x\nmerge_method: linear\nmodels: [{modl: a}]\n---\n"
            "merge_method: linear\nmodels: [{model: x}]",
            "merge.yaml: x: models.0.model: is required",
        ),
    ],
)
def test_stages_that_make_no_sense_are_refused(folder: Path, text: str, message: str) -> None:
    (folder / "merge.yaml").write_text(text)

    with pytest.raises(InputError) as error:
        load_merge(folder / "merge.yaml")

    assert message in str(error.value)
