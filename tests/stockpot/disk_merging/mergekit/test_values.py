"""Values of mergekit's parameters: over depth, by filters, of single models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from merge_files import State, merge, read_job
from published_recipes import LAYERS, MODELS, RECIPES, write_models
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def _states(folder: Path) -> dict[str, State]:
    return {name: load_file(folder / name / "model.safetensors") for name in MODELS}


def test_heads_and_embeddings_take_the_first_value_as_in_mergekit(
    folder: Path, tmp_path: Path
) -> None:
    states = _states(folder)

    merged = merge(
        folder,
        "models:\n  - {model: a, parameters: {weight: 1}}\n"
        "  - {model: b, parameters: {weight: [0, 1]}}\nmerge_method: linear\n",
        str(tmp_path / "merged"),
    )

    for name in ("lm_head.weight", "model.norm.weight", "model.embed_tokens.weight"):
        assert torch.equal(merged[name], states["a"][name])
    last = f"model.layers.{LAYERS - 1}.mlp.up_proj.weight"
    torch.testing.assert_close(merged[last], (states["a"][last] + states["b"][last]) / 2)


def test_filters_that_match_nothing_leave_it_to_the_parameters_of_all(
    folder: Path, tmp_path: Path
) -> None:
    states = _states(folder)

    merged = merge(
        folder,
        "models:\n  - {model: a, parameters: {weight: [{filter: mlp, value: 3}]}}\n"
        "  - {model: b}\nmerge_method: task_arithmetic\nbase_model: base\n"
        "parameters: {weight: [{filter: self_*, value: 9}, {filter: '*', value: 0.5}]}\n",
        str(tmp_path / "merged"),
    )

    for name, factors in (
        ("model.layers.2.mlp.up_proj.weight", (3.0, 0.5)),
        ("model.layers.2.self_attn.o_proj.weight", (0.5, 0.5)),  # a star within is no wildcard
    ):
        base = states["base"][name]
        change = sum(f * (states[m][name] - base) for f, m in zip(factors, "ab", strict=True))
        torch.testing.assert_close(merged[name], base + change)


def test_the_base_takes_part_in_methods_of_weights(folder: Path, tmp_path: Path) -> None:
    shared = "models: [{model: a}, {model: b}]\nmerge_method: linear\nbase_model: base\n"
    states = _states(folder)

    weighted = merge(folder, shared + "parameters: {weight: 1}", str(tmp_path / "three"))

    mean = sum(states[name]["lm_head.weight"] for name in ("a", "b", "base")) / 3
    torch.testing.assert_close(weighted["lm_head.weight"], mean)


def test_a_density_gradient_is_that_of_its_model(folder: Path, tmp_path: Path) -> None:
    states = _states(folder)

    merged = merge(
        folder,
        "models:\n  - {model: a, parameters: {weight: 1, density: [0, 1]}}\n"
        "  - {model: b, parameters: {weight: 1, density: [1, 0]}}\n"
        "merge_method: ties\nbase_model: base\nparameters: {normalize: false}\n",
        str(tmp_path / "merged"),
    )

    first, last = (f"model.layers.{n}.mlp.up_proj.weight" for n in (0, LAYERS - 1))
    torch.testing.assert_close(merged[first], states["b"][first])
    torch.testing.assert_close(merged[last], states["a"][last])


def test_a_merge_with_options_of_single_models_can_be_rebuilt(folder: Path, tmp_path: Path) -> None:
    job = read_job(
        folder, RECIPES["ties with densities and weights over depth"], str(tmp_path / "merged")
    )
    job.check()
    job.run(lambda _bytes: None)

    card = (tmp_path / "merged" / "README.md").read_text()
    assert "| b | [0.0, 0.3, 0.7, 1.0], density: 0.5 |" in card
    again = type(job).rebuilding(tmp_path / "merged", tmp_path / "again", folder)
    again.run(lambda _bytes: None)

    written = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("merged", "again")]
    assert written[0] == written[1]
