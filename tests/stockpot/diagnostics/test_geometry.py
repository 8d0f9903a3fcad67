from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from made_context import DIGITS, initial_state, make_context, make_context_of, moved
from torch import Tensor, nn

from stockpot.diagnostics.geometry import (
    Representation,
    geometry,
    references,
    represent,
    variance_ratios,
)
from stockpot.diagnostics.layers import weighted_layers
from stockpot.soups.alignment import layer_cosines, permute, random_permutations, trace_spec
from stockpot.soups.alignment.permutations import check_spec
from stockpot.workloads.spec import WorkloadSpec

LAYERS = ["features.0", "features.2", "features.5", "head"]


@pytest.fixture
def base() -> dict[str, Tensor]:
    return initial_state(DIGITS.build())


def _ratios(finding_data: dict[str, list[dict[str, list[float]]]]) -> list[float]:
    return finding_data["models"][-1]["variance_ratio"]


def test_ingredients_with_permuted_units_are_alike_while_their_weights_are_not(
    tmp_path: Path, base: dict[str, Tensor]
) -> None:
    net = DIGITS.build().build_model(torch.Generator().manual_seed(0))
    spec = trace_spec(net, torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    sizes = check_spec(spec, base)
    other = permute(base, spec, random_permutations(sizes, torch.Generator().manual_seed(1)))

    data = geometry(make_context(tmp_path, base, [base, other])).data

    assert layer_cosines(base, other)["features.5.weight"] < 0.3
    for matrix in data["pairs"]["layers"].values():
        assert matrix[0][1] == pytest.approx(1, abs=1e-4)


def test_a_soup_of_identical_ingredients_keeps_their_variance_and_geometry(
    tmp_path: Path, base: dict[str, Tensor]
) -> None:
    finding = geometry(make_context(tmp_path, base, [base, base, base]))

    assert finding.data["layers"] == LAYERS
    assert _ratios(finding.data) == pytest.approx([1, 1, 1, 1], abs=1e-3)
    assert finding.metrics == pytest.approx(
        {"cka_of_ingredients": 1, "cka_of_soup": 1, "variance_ratio": 1}, abs=1e-3
    )
    assert "so it needs no repair" in finding.sentence
    assert json.loads(json.dumps(finding.to_json(), allow_nan=False))


def test_unrelated_nets_are_unlike_and_the_variance_of_their_average_collapses(
    tmp_path: Path, base: dict[str, Tensor]
) -> None:
    others = [initial_state(DIGITS.build(), seed) for seed in range(1, 5)]

    finding = geometry(make_context(tmp_path, base, others))

    assert min(_ratios(finding.data)) < 0.3
    assert "collapses" in finding.sentence
    assert "stockpot.soups.alignment.repair" in finding.sentence


def test_each_model_is_compared_with_inputs_targets_and_all_other_ingredients(
    tmp_path: Path, base: dict[str, Tensor]
) -> None:
    ingredients = [moved(base, 0.1, seed) for seed in range(3)]

    data = geometry(make_context(tmp_path, base, ingredients)).data

    rows = {row["name"]: row for row in data["models"]}
    assert list(rows) == ["base", "ingredient-00", "ingredient-01", "ingredient-02", "uniform"]
    assert all(len(row[name]) == 4 for row in rows.values() for name in ("inputs", "targets"))
    assert rows["base"]["inputs"][0] > rows["base"]["inputs"][-1]
    head = data["pairs"]["layers"]["head"]
    assert rows["ingredient-01"]["ingredients"][-1] == pytest.approx(
        (head[1][0] + head[1][2]) / 2, abs=1e-4
    )


def test_one_ingredient_has_no_pair_and_no_soup_no_ratio(
    tmp_path: Path, base: dict[str, Tensor]
) -> None:
    finding = geometry(make_context(tmp_path, base, [base], soups={}))

    assert finding.metrics == {}
    assert "one ingredient" in finding.sentence
    assert finding.data["pairs"]["mean"] == [[1.0]]


def test_a_val_split_of_three_examples_is_too_small(tmp_path: Path) -> None:
    spec = WorkloadSpec("toy_workload:Toy", seed=0, options=(("sizes", "3,4"),))
    weights = {"weight": torch.eye(2)}

    finding = geometry(make_context_of(spec, tmp_path, weights, [weights, weights]))

    assert "3 examples" in finding.sentence
    assert finding.data == {}


def test_variance_ratios_by_hand() -> None:
    soup = Representation({}, {"a": 2.0, "b": 1.0})
    ingredients = [Representation({}, {"a": v, "b": 0.0}) for v in (3.0, 5.0)]

    assert variance_ratios(soup, ingredients) == [0.5, None]


def test_a_layers_variance_is_summed_over_channels_not_over_places() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False))
    net[0].weight.data = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
    images = torch.arange(16.0).reshape(4, 1, 2, 2)

    seen = represent(DIGITS.build(), net, (images, torch.zeros(4)), ["0"])

    assert seen.variances["0"] == pytest.approx(float(images.var(correction=0)) * 5)


def test_token_numbers_have_no_geometry_and_real_targets_are_taken_as_they_are() -> None:
    tokens, targets = torch.arange(8).reshape(4, 2), torch.tensor([0.0, 1.0, 2.0, 4.0])

    known = references((tokens, targets))

    assert list(known) == ["targets"]
    assert known["targets"].shape == (16,)
    assert references((tokens, tokens)) == {}


def test_many_layers_are_thinned_out_but_first_and_last_stay() -> None:
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(9)))
    batch = (torch.zeros(3, 2), torch.zeros(3))

    chosen = weighted_layers(DIGITS.build(), net, batch, at_most=4)

    assert list(chosen) == ["0", "3", "5", "8"]
