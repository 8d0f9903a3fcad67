"""The forms of recipes that people publish are merged, and what is ignored of them is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from merge_files import read_job
from published_recipes import RECIPES, write_models
from safetensors.torch import load_file

IGNORED = {
    "a top-level parameter": (
        "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 2}}]\n"
        "merge_method: linear\nnormalize: true\nname: mix",
        ["normalize is ignored: mergekit has no such field", "name is ignored: mergekit has no"],
    ),
    "fields of a model": (
        "models: [{model: a, layer_range: [0, 8]}, {model: b, weight: 0.3}]\n"
        "merge_method: linear\nparameters: {weight: 1}",
        ["models.0.layer_range is ignored", "models.1.weight is ignored"],
    ),
    "parameters of another method": (
        "models: [{model: a, parameters: {weight: 1, density: 0.5}}, {model: b}]\n"
        "merge_method: task_arithmetic\nbase_model: base\nparameters: {rescale: true}",
        ["parameter 'rescale' is ignored: task_arithmetic", "parameter 'density' is ignored"],
    ),
    "weights where there are none": (
        "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 9}}]\n"
        "merge_method: karcher",
        ["parameter 'weight' is ignored: karcher has none"],
    ),
    "a global parameter of one model": (
        "models: [{model: a, parameters: {weight: 1, normalize: false}}, {model: b}]\n"
        "merge_method: ties\nbase_model: base",
        ["parameter 'normalize' of single models is ignored"],
    ),
    "residual weights": (
        "slices: [{sources: [{model: a, layer_range: [0, 8]}], residual_weight: 0.5}]\n"
        "merge_method: passthrough",
        ["residual_weight is ignored"],
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("form", RECIPES)
def test_a_published_form_is_merged(folder: Path, tmp_path: Path, form: str) -> None:
    job = read_job(folder, RECIPES[form], str(tmp_path / "merged"))
    job.check()
    job.run(lambda _bytes: None)

    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert [note for note in job.notes if "ignored" in note] == []
    assert all(tensor.isfinite().all() for tensor in merged.values())
    assert any(
        tensor.shape != base[name].shape or not torch.equal(tensor.float(), base[name])
        for name, tensor in merged.items()
        if name in (base := load_file(folder / "base" / "model.safetensors"))
    )
    assert {n for n in merged if not n.startswith("model.layers.")} == {
        "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
    }  # fmt: skip


@pytest.mark.parametrize("case", IGNORED)
def test_what_mergekit_ignores_is_ignored_and_said(folder: Path, case: str) -> None:
    text, expected = IGNORED[case]

    job = read_job(folder, text)
    job.check()

    assert [note for note in job.notes if "ignored" in note] == [*job.file.ignored]
    assert len(job.file.ignored) == len(expected)
    for note, said in zip(job.file.ignored, expected, strict=True):
        assert said in note
