"""LiNeS: merged task vectors scaled over depth, for every method that needs a base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import stockpot
from stockpot.disk_merging.planning.depth_scaling import by_depth, depths
from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.merging.registry import METHODS

NAMES = ["embed.weight", "layers.0.a", "layers.1.a", "layers.2.a", "head.weight"]
BASED = [
    name
    for name, each in METHODS.items()
    if each.needs_base and each.num_models[1] is None
    if each.check_names is None and each.side_information is None
]


def _states(count: int = 3) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{n: torch.randn(4, 3, generator=generator) for n in NAMES} for _ in range(count)]


def test_depth_is_the_layers_place_in_its_stack() -> None:
    encoder = [f"encoder.block.{layer}.w" for layer in (0, 1, 10)]
    decoder = ["decoder.block.0.w", "decoder.block.1.w"]

    found = depths(["shared.weight", *encoder, *decoder, "final_norm.weight", "lm_head.weight"])

    assert [*found.values()] == [0.0, 0.0, 0.5, 1.0, 0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("method", BASED)
def test_each_layer_has_its_own_scale(method: str) -> None:
    base, *models = _states()
    recipe = Recipe(method, (0.5, 0.5))
    plain = merge_states(models, recipe, base)
    deep = Recipe(method, (0.5, 0.5), {"lines_alpha": 0.25, "lines_beta": 1.0})

    merged = merge_states(models, by_depth(deep, base), base)

    for name, scale in zip(NAMES, (0.25, 0.25, 0.75, 1.25, 1.25), strict=True):
        expected = base[name] + scale * (plain[name] - base[name])
        torch.testing.assert_close(merged[name], expected)


def test_alpha_alone_is_the_scale_of_task_arithmetic() -> None:
    base, *models = _states()
    scaled = stockpot.merge(models, "task_arithmetic", base=base, scale=0.3)
    plain = stockpot.merge(models, "task_arithmetic", base=base)

    alone = stockpot.merge(models, "task_arithmetic", base=base, lines_alpha=0.3)
    neither = stockpot.merge(models, "task_arithmetic", base=base, lines_alpha=1, lines_beta=0)

    for name in NAMES:
        torch.testing.assert_close(alone[name], scaled[name])
        assert torch.equal(neither[name], plain[name])


def test_models_on_disk_get_the_bits_of_models_in_memory(tmp_path: Path) -> None:
    base, *models = _states()
    paths = [tmp_path / f"{place}.safetensors" for place in range(3)]
    for path, state in zip(paths, (base, *models), strict=True):
        save_file(state, path)
    options = {"density": 0.5, "lines_alpha": 0.5, "lines_beta": 0.5}

    written = stockpot.merge(
        paths[1:], "ties", base=paths[0], output=tmp_path / "merged.safetensors", **options
    )

    merged = stockpot.merge(models, "ties", base=base, **options)
    on_disk = load_file(written)
    assert all(torch.equal(on_disk[name], merged[name]) for name in NAMES)


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("ties", {"lines_beta": 1.0}, "ties: lines_beta needs a model with numbered layers"),
        ("ties", {"lines_alpha": "x"}, "ties: lines_alpha must be a finite number, got 'x'"),
        ("linear", {"lines_beta": 1.0}, "linear: unknown option 'lines_beta'"),
    ],
)
def test_what_cannot_be_scaled_over_depth_is_refused(
    method: str, options: dict[str, object], reason: str
) -> None:
    models = [{"fc.weight": torch.ones(2, 2)}] * 2

    with pytest.raises(InputError, match=reason):
        stockpot.merge(models, method, base=models[0], **options)
