"""Gram matrices of RegMean++: inputs come from the merged layers before a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from measured_nets import Built, measure, points
from torch import Tensor, nn

from stockpot.merging.engine import merge_states
from stockpot.merging.methods.regmean import regmean
from stockpot.merging.recipe import Recipe
from stockpot.soups.preparation.cross_grams import CrossGrams
from stockpot.soups.preparation.gram_matrices import GramMatrices

RECIPE = Recipe("regmean_plus_plus", (0.5, 0.5))
Build = Callable[[], nn.Module]


def _merge(states: Sequence[Any], known: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    return merge_states(states, replace(RECIPE, side_information=tuple(known)))


def _models(build: Build) -> list[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [build() for _ in range(2)]


def _found(build: Build, models: Sequence[nn.Module]) -> list[dict[str, Tensor]]:
    states = [model.state_dict() for model in models]
    return CrossGrams(n=8).compute_together(Built(build), states, _merge, seed=0, device="cpu")


def _gram(inputs: Tensor) -> Tensor:
    rows = inputs.detach().double()
    return (rows.mT @ rows / len(rows)).unsqueeze(0)


class Blocks(nn.Module):
    """Two numbered blocks of two layers, with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(2, 3), "down": nn.Linear(3, 2)}) for _ in range(2)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        for block in self.layers:
            assert isinstance(block, nn.ModuleDict)
            inputs = inputs + block["down"](block["up"](inputs).relu())
        return inputs


def test_of_one_layer_they_are_those_of_regmean_and_so_is_the_merge() -> None:
    models = _models(lambda: nn.Linear(2, 3))

    found = _found(lambda: nn.Linear(2, 3), models)

    grams = [measure(GramMatrices(8), model) for model in models]
    weights = [model.state_dict() for model in models]
    for own, known in zip(found, grams, strict=True):
        torch.testing.assert_close(own, known)
    expected = regmean(
        [w["weight"] for w in weights], [g["weight"] for g in grams], (0.5, 0.5), reduce=0.95
    )
    torch.testing.assert_close(_merge(weights, found)["weight"], expected)


def test_a_layer_is_measured_behind_the_merged_layer_before_it() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))

    models = _models(build)

    found = _found(build, models)

    first = nn.Linear(2, 4)
    states = [{n[2:]: t for n, t in m.state_dict().items() if n[0] == "0"} for m in models]
    first.load_state_dict(_merge(states, [{"weight": own["0.weight"]} for own in found]))
    expected = _gram(first(points().float()).relu())
    for own in found:
        torch.testing.assert_close(own["2.weight"], expected)


def test_inside_a_numbered_block_a_model_has_its_own_layers() -> None:
    models = _models(Blocks)

    found = _found(Blocks, models)

    merged = Blocks()
    merged.load_state_dict(_merge([model.state_dict() for model in models], found))
    first = merged.layers[0]
    assert isinstance(first, nn.ModuleDict)
    inputs = points().float() + first["down"](first["up"](points().float()).relu())
    for own, model in zip(found, models, strict=True):
        assert isinstance(model, Blocks)
        second = model.layers[1]
        assert isinstance(second, nn.ModuleDict)
        torch.testing.assert_close(own["layers.1.up.weight"], _gram(inputs))
        torch.testing.assert_close(own["layers.1.down.weight"], _gram(second["up"](inputs).relu()))
