"""Adapters extracted from fine-tuned models: the best of their rank, with the error as stated."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_folders import randn
from merge_files import merge, save_model
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from stockpot.disk_merging.adapters.lora_extraction import LoraExtraction, Truncation, total_error
from stockpot.disk_merging.adapters.low_rank import factorize
from stockpot.errors import InputError
from stockpot.storage.weights.opening import open_source

SHAPES = {
    "model.embed_tokens": (9, 6),
    "model.layers.0.self_attn.q_proj": (6, 6),
    "model.layers.0.mlp.down_proj": (6, 10),
    "model.layers.1.mlp.up_proj": (10, 6),
    "lm_head": (9, 6),
}
LINEAR = [name for name in SHAPES if "layers" in name]


def _state(seed: int) -> dict[str, Tensor]:
    shapes = {f"{module}.weight": shape for module, shape in SHAPES.items()}
    shapes |= {"model.norm.weight": (6,), f"{LINEAR[0]}.bias": (6,)}
    return {name: randn(*shape, seed=seed + n) for n, (name, shape) in enumerate(shapes.items())}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base, change = _state(0), _state(20)
    save_model(tmp_path / "base", base)
    save_model(tmp_path / "tuned", {name: base[name] + 0.1 * change[name] for name in base})
    return tmp_path


def _extract(folder: Path, place: str = "lora", **settings: Any) -> dict[str, Truncation]:
    settings = {"rank": 3} | settings
    tuned, base = open_source(folder / "tuned"), open_source(folder / "base")
    extraction = LoraExtraction(tuned, base, "base", folder / place, **settings)
    extraction.check()
    return dict(extraction.run())


def _changes(folder: Path) -> dict[str, Tensor]:
    tuned, base = (load_file(folder / n / "model.safetensors") for n in ("tuned", "base"))
    return {name: tuned[name].double() - base[name].double() for name in base}


def _best_error(change: Tensor, rank: int) -> float:
    return float(torch.linalg.svdvals(change)[rank:].norm())


@pytest.mark.parametrize("shape", [(7, 12), (12, 7), (5, 5), (1, 4), (4, 1)])
def test_factors_are_the_truncated_singular_value_decomposition(shape: tuple[int, int]) -> None:
    matrix = randn(*shape).double()
    u, singular, vh = torch.linalg.svd(matrix, full_matrices=False)

    for rank in range(1, min(shape) + 1):
        a, b = factorize(matrix, rank)

        assert_close(b @ a, u[:, :rank] * singular[:rank] @ vh[:rank], rtol=0, atol=1e-12)
        assert_close(b.norm(dim=0), a.norm(dim=1))  # neither factor over- or underflows alone


def test_the_energy_chooses_the_smallest_rank_that_suffices() -> None:
    u, _, vh = torch.linalg.svd(randn(6, 4).double(), full_matrices=False)
    matrix = u * torch.tensor([4.0, 2.0, 1.0, 0.0]).double() @ vh  # squares 16, 4, 1 of 21

    for energy, rank in ((0.5, 1), (16 / 21 + 1e-9, 2), (20 / 21 - 1e-9, 2), (0.96, 3)):
        assert len(factorize(matrix, 9, energy)[0]) == rank
    assert len(factorize(matrix, 2, 0.96)[0]) == 2
    assert len(factorize(torch.zeros(3, 2).double(), 2)[0]) == 1


def test_an_adapter_on_its_base_has_the_stated_error_which_is_the_least(folder: Path) -> None:
    found = _extract(folder)
    merged = merge(folder, "method: linear\nmodels: [lora]\nbase: base")

    base = load_file(folder / "base" / "model.safetensors")
    for name, change in _changes(folder).items():
        error = float((change - (merged[name].double() - base[name].double())).norm())
        assert math.isclose(found[name].error, error, abs_tol=1e-6)
        assert math.isclose(found[name].norm, float(change.norm()), rel_tol=1e-6)
        if name.removesuffix(".weight") in LINEAR:
            assert found[name].rank == 3
            assert math.isclose(error, _best_error(change, 3), abs_tol=1e-6)
        else:
            assert found[name].rank == 0


def test_the_total_is_the_error_of_all_changes_together() -> None:
    found = [Truncation(1, 3.0, 5.0), Truncation(0, 4.0, 12.0)]

    assert total_error(found) == 5 / 13
    assert total_error([]) == 0


def test_the_rest_is_stored_where_asked_and_the_merge_is_then_exact(folder: Path) -> None:
    found = _extract(folder, rank=10, saves_rest=True)
    merged = merge(folder, "method: linear\nmodels: [lora]\nbase: base")

    assert_close(merged, load_file(folder / "tuned" / "model.safetensors"), rtol=0, atol=1e-6)
    assert total_error(found.values()) < 1e-6
    config = json.loads((folder / "lora" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["lm_head", "model.embed_tokens", "model.norm"]
    assert config["bias"] == "lora_only"


def test_modules_choose_the_layers_heads_included(folder: Path) -> None:
    found = _extract(folder, modules=["self_attn", "lm_head"])

    assert {name for name, one in found.items() if one.rank} == {
        "model.layers.0.self_attn.q_proj.weight",
        "lm_head.weight",
    }


def test_weights_in_bfloat16_state_the_error_of_rounding(folder: Path) -> None:
    name = f"{LINEAR[0]}.weight"

    exact = _extract(folder, "exact", rank=6)[name]
    rounded = _extract(folder, "rounded", rank=6, dtype=torch.bfloat16)[name]

    assert exact.relative < 1e-6
    assert 1e-4 < rounded.relative < 1e-2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rank": 0}, "--rank must be at least 1, got 0"),
        ({"energy": 0.0}, r"--energy must be in \(0, 1\], got 0"),
        ({"energy": 1.1}, "--energy must be in"),
        ({"modules": ["qproj"]}, r"--modules: no linear layer .* matches \['qproj'\]; its modules"),
        ({"place": "base"}, "exists already"),
        ({"place": "x.safetensors"}, "is a folder"),
    ],
)
def test_settings_that_are_not_possible_are_refused(
    folder: Path, settings: Mapping[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        _extract(folder, **settings)


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "base", _state(0))
    save_model(tmp_path / "tuned", _state(0))
    with pytest.raises(InputError, match=r"no linear layer differs from .*base"):
        _extract(tmp_path)
    assert not (tmp_path / "lora").exists()

    for name, state, expected in (
        ("other", {"model.norm.weight": torch.ones(6)}, "lacks lm_head.weight, .* and 3 more"),
        ("wider", _state(0) | {"lm_head.weight": torch.ones(10, 6)}, r"has shape \(10, 6\) in"),
        ("nan", _state(0) | {"lm_head.weight": torch.full((9, 6), math.nan)}, "not finite"),
    ):
        save_model(tmp_path / name, state)
        tuned, base = open_source(tmp_path / name), open_source(tmp_path / "base")
        with pytest.raises(InputError, match=expected):
            list(LoraExtraction(tuned, base, "base", tmp_path / "lora", 2).run())


def test_a_tied_embedding_that_differs_is_not_stored_whole(tmp_path: Path) -> None:
    state = {name: t for name, t in _state(0).items() if "lm_head" not in name}
    save_model(tmp_path / "base", state)
    save_model(tmp_path / "tuned", {name: t + 1 for name, t in state.items()})

    with pytest.raises(InputError, match="may tie its head"):
        _extract(tmp_path, saves_rest=True)
    assert not (tmp_path / "lora").exists()
