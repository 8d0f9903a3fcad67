from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_context import DIGITS, initial_state, make_context, make_context_of, moved
from small_text_workloads import bert_spec, llama_spec
from torch import Tensor, nn

from stockpot.diagnostics import regime as regime_file
from stockpot.diagnostics.ensemble_gap import own_coefficients, soup_ensemble_gap
from stockpot.diagnostics.regime import (
    displacements,
    effective_rank,
    regime,
    representation_alignment,
    sign_agreement,
)
from stockpot.diagnostics.states import mean_state
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.wise_ft import wise_ft
from stockpot.merging.recipe import Recipe
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

TOY = WorkloadSpec("toy_workload:Toy", seed=0, options=(("sizes", "40,4"),))


@pytest.fixture
def base() -> dict[str, Tensor]:
    return initial_state(DIGITS.build())


def test_an_ingredient_that_is_the_base_did_not_move(
    tmp_path: Path, base: dict[str, Tensor]
) -> None:
    finding = regime(make_context(tmp_path, base, [base, base]))

    assert finding.metrics == pytest.approx(
        {
            "displacement": 0,
            "ntk_distance": 0,
            "representation_alignment": 1,
            "sign_agreement": 1,
            "effective_rank": 0,
            "initial_effective_rank": finding.data["initial_effective_rank"],
            "gap": 0,
        },
        abs=1e-6,
    )
    assert "those of the base" in finding.sentence


def test_a_linear_net_has_its_kernel_and_its_ensemble_whatever_the_weights(
    tmp_path: Path,
) -> None:
    ingredients = [
        {"weight": torch.randn(2, 2, generator=torch.Generator().manual_seed(n))} for n in range(3)
    ]

    finding = regime(make_context_of(TOY, tmp_path, {"weight": torch.eye(2)}, ingredients))

    assert finding.metrics["displacement"] > 0.5
    assert finding.metrics["ntk_distance"] == pytest.approx(0, abs=1e-6)
    assert finding.metrics["representation_alignment"] == 1
    assert finding.metrics["gap"] == pytest.approx(0, abs=1e-6)
    assert "predicts like the ensemble" in finding.sentence


def test_small_steps_are_lazy_and_large_ones_are_not(
    tmp_path: Path, base: dict[str, Tensor]
) -> None:
    near, far = (
        regime(make_context(tmp_path / name, base, [moved(base, size, n) for n in range(2)]))
        for name, size in (("near", 0.01), ("far", 1.5))
    )

    assert near.metrics["ntk_distance"] < 0.01
    assert far.metrics["ntk_distance"] > 0.1
    assert near.metrics["gap_relative"] < 0.25
    assert near.metrics["sign_agreement"] > far.metrics["sign_agreement"]
    assert "predicts like the ensemble" in near.sentence
    assert "differs from the ensemble" in far.sentence
    assert json.loads(json.dumps(far.to_json(), allow_nan=False))


def test_the_gap_is_of_second_order_in_the_task_vectors() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    generator = torch.Generator().manual_seed(0)
    draw = lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    base = {name: draw(tensor.shape) for name, tensor in net.state_dict().items()}
    steps = [{name: draw(tensor.shape) for name, tensor in base.items()} for _ in range(3)]
    inputs = draw((16, 3))

    def outputs(state: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(net, state, inputs).detach()

    def gap(scale: float) -> float:
        states = [{n: base[n] + scale * step[n] for n in base} for step in steps]
        soup = outputs(mean_state(states))
        return soup_ensemble_gap(soup, [*map(outputs, states)], [1 / 3] * 3, outputs(base))[0]

    gaps = [gap(0.2 / 2**halvings) for halvings in range(5)]

    assert gaps[3] / gaps[4] == pytest.approx(4, rel=0.1)


def test_the_gap_by_hand() -> None:
    soup, base = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]])
    outputs = [torch.tensor([[4.0, 2.0]]), torch.tensor([[0.0, 2.0]])]

    gap, relative = soup_ensemble_gap(soup, outputs, [0.75, 0.25], base)

    assert gap == pytest.approx((((1 - 3) ** 2 + 0) / 2) ** 0.5)
    assert relative == pytest.approx(gap / ((9 + 4) / 2) ** 0.5)


def test_a_gap_to_an_ensemble_that_is_the_base_has_no_share() -> None:
    zeros = torch.zeros(1, 2)

    assert soup_ensemble_gap(zeros + 1, [zeros], [1.0], zeros) == (1.0, None)


def test_the_effective_rank_of_an_identity_is_its_size_and_of_one_direction_one() -> None:
    column = torch.arange(1.0, 6.0)

    assert effective_rank(torch.eye(7)) == pytest.approx(7)
    assert effective_rank(torch.outer(column, column)) == pytest.approx(1, abs=1e-6)
    assert effective_rank(torch.zeros(3, 4)) == 0


def test_displacements_by_hand() -> None:
    base = {
        "a.weight": torch.tensor([3.0, 0.0]),
        "a.bias": torch.tensor([4.0]),
        "b": torch.zeros(1),
    }
    state = {
        "a.weight": torch.tensor([3.0, 0.5]),
        "a.bias": torch.tensor([4.0]),
        "b": torch.ones(1),
    }

    total, by_module = displacements(base, state, [*base])

    assert total == pytest.approx((0.25 + 1) ** 0.5 / 5)
    assert by_module == {"a": pytest.approx(0.1), "b": None}


def test_representations_are_aligned_up_to_rotation() -> None:
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    turned = rows @ torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])

    assert representation_alignment(rows, 5 * turned) == pytest.approx(1)
    assert representation_alignment(rows, rows * torch.tensor([1.0, 0, 0])) < 0.9


def test_signs_agree_on_a_share_of_units_and_examples() -> None:
    first = {"a": torch.tensor([True, False]), "b": torch.tensor([[True, True]])}
    second = {"a": torch.tensor([True, True]), "b": torch.tensor([[True, True]])}

    assert sign_agreement(first, second) == 0.75
    assert sign_agreement({}, {}) == 1


def test_a_net_too_large_for_its_kernel_is_compared_by_the_rest(
    tmp_path: Path, base: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regime_file, "_MAX_JACOBIAN_MB", 0)

    finding = regime(make_context(tmp_path, base, [moved(base, 0.1, 0)]))

    assert "ntk_distance" not in finding.metrics
    assert "too large to be computed" in finding.sentence
    assert finding.data["kernel"]["num_params"] == 0
    assert "With one ingredient" in finding.sentence


def _soup_of(method: str, coefficients: dict[str, float]) -> Model:
    details = {"recipe": {"method": method}, "coefficients": coefficients}
    return Model("soup", "soup", "key", "digest", "soup.safetensors", 1, 1, {}, details)


def _states(base: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    return {f"ingredient-0{number}": moved(base, 0.5, number) for number in range(3)}


@pytest.mark.parametrize("alpha", [0.3, 0.8])
def test_a_wise_ft_soup_is_compared_with_its_own_ingredient_and_the_base(
    tmp_path: Path, base: dict[str, Tensor], alpha: float
) -> None:
    states = _states(base)
    soup = merge_states(
        [states["ingredient-01"]], Recipe.of(wise_ft, (1.0,), {"alpha": alpha}), base
    )
    context = make_context(tmp_path, base, [*states.values()], {"wise": soup})
    recipe = {"method": "wise_ft", "options": {"alpha": alpha}}
    details = {"recipe": recipe, "coefficients": {"ingredient-01": alpha}}
    model = context.soups[0].model
    made = replace(
        context, soups=(replace(context.soups[0], model=replace(model, details=details)),)
    )

    finding = regime(made)

    batch = context.probe("val", 32)
    with torch.no_grad():
        of_base, of_one, of_soup = (
            context.workload.forward(context.net(state), batch).double().clone()
            for state in (base, states["ingredient-01"], soup)
        )
    ensemble = (1 - alpha) * of_base + alpha * of_one
    gap = (of_soup - ensemble).square().mean().sqrt() / (ensemble - of_base).square().mean().sqrt()
    row = finding.data["gaps"][1]
    assert row["name"] == "wise"
    assert row["coefficients"] == {"ingredient-01": pytest.approx(alpha)}
    assert row["relative"] == finding.metrics["gap_relative"] == pytest.approx(float(gap), rel=1e-3)
    assert f"the soup 'wise' instead of their outputs changes the outputs by {100 * gap:.0f} %" in (
        finding.sentence
    )
    assert finding.data["gaps"][0]["relative"] != pytest.approx(row["relative"], rel=0.02)


def test_a_scaled_sum_of_task_vectors_has_its_scale_and_a_linear_soup_what_it_recorded(
    base: dict[str, Tensor],
) -> None:
    states = _states(base)
    names = ["ingredient-00", "ingredient-02"]
    scaled = {
        name: tensor + 0.7 * sum(states[one][name] - tensor for one in names)
        for name, tensor in base.items()
    }
    arithmetic = _soup_of("task_arithmetic", dict.fromkeys(names, 0.5))
    linear = _soup_of("linear", dict.fromkeys(names, 2.0))

    assert own_coefficients(arithmetic, scaled, base, states) == pytest.approx(
        dict.fromkeys(names, 0.7), rel=1e-4
    )
    assert own_coefficients(linear, scaled, base, states) == dict.fromkeys(names, 0.5)


def test_ingredients_that_are_equal_share_their_coefficient(base: dict[str, Tensor]) -> None:
    one = moved(base, 0.5, 1)
    states = {"ingredient-00": one, "ingredient-01": one}
    soup = _soup_of("ties", dict.fromkeys(states, 0.5))

    assert own_coefficients(soup, one, base, states) == pytest.approx(dict.fromkeys(states, 0.5))


def test_the_initial_rank_is_that_of_the_bases_weights(
    tmp_path: Path, base: dict[str, Tensor]
) -> None:
    finding = regime(make_context(tmp_path, base, [moved(base, 0.1, 0)]))

    ranks = [effective_rank(one.flatten(1)) for one in base.values() if one.ndim > 1]
    assert finding.metrics["initial_effective_rank"] == pytest.approx(sum(ranks) / len(ranks))
    assert f"mean effective rank of {sum(ranks) / len(ranks):.3g}" in finding.sentence


@pytest.mark.parametrize("make", [bert_spec, llama_spec])
def test_the_tangent_kernel_of_a_transformer_turns(
    tmp_path: Path, make: Callable[[Path], WorkloadSpec]
) -> None:
    spec = make(tmp_path)
    base = initial_state(spec.build())

    finding = regime(make_context_of(spec, tmp_path, base, [base, moved(base, 0.5, 0)]))

    distances = [row["ntk_distance"] for row in finding.data["models"]]
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert 1e-5 < distances[1] < 1
    assert json.loads(json.dumps(finding.to_json(), allow_nan=False))
