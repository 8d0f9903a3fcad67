"""Gossip: averages of peers, rescaled to the variance that independent models have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from quadratic_clients import one_round
from torch import Tensor

from stockpot.soups.rounds.gossip import Gossip


def _models(count: int, shape: tuple[int, ...] = (100, 1000)) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(1, 2, count)
    return [{"w": scale * torch.randn(shape, generator=generator)} for scale in scales]


def _merged(models: list[dict[str, Tensor]], **options: Any) -> dict[int, dict[str, Tensor]]:
    rule = Gossip(**({"peers": len(models)} | options))
    return {client: dict(own) for client, own in rule.merge(one_round(models, {})).own.items()}


def test_identical_models_stay_the_same() -> None:
    models = _models(1) * 4

    for own in _merged(models).values():
        torch.testing.assert_close(own["w"], models[0]["w"], rtol=1e-6, atol=1e-6)


def test_the_average_of_four_independent_models_is_doubled() -> None:
    generator = torch.Generator().manual_seed(0)
    models = [{"w": torch.randn(100, 1000, generator=generator)} for _ in range(4)]

    mean = sum(model["w"] for model in models) / 4

    assert float((_merged(models)[0]["w"] / mean).median()) == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize(
    ("variance", "wanted"), [("others", 2.5), ("self", 4.0), ("mixed", 0.75 * 4 + 0.25 * 2.5)]
)
def test_the_variance_is_that_of_all_models_of_ones_own_or_a_mixture(
    variance: str, wanted: float
) -> None:
    models = _models(2)  # variances 1 and 4

    own = _merged(models, variance=variance, own_share=0.75)[1]["w"]

    assert float(own.var()) == pytest.approx(wanted, rel=0.02)
    mean = float((models[0]["w"] + models[1]["w"]).mean()) / 2
    assert float(own.mean()) == pytest.approx(mean, abs=1e-6)


def test_without_a_correction_it_is_the_average() -> None:
    models = _models(3, (4, 4))

    own = _merged(models, variance="none")

    mean = sum(model["w"] for model in models) / 3
    torch.testing.assert_close(own[2]["w"], mean, rtol=0, atol=1e-6)


def test_constant_tensors_and_those_of_one_axis_are_averaged() -> None:
    models = [{"c": torch.full((3, 3), 2.0), "s": torch.tensor([v, 2 * v])} for v in (1.0, 3.0)]

    own = _merged(models)[0]

    assert own["c"].tolist() == models[0]["c"].tolist()
    assert own["s"].tolist() == [2.0, 4.0]


def test_a_client_hears_from_as_many_peers_as_asked_for() -> None:
    models = [{"w": torch.full((2, 2), float(10**client))} for client in range(4)]

    own = _merged(models, peers=1, variance="none")

    for client, model in own.items():
        twice = 2 * model["w"][0, 0].item()
        others = {10**client + 10**other for other in range(4) if other != client}
        assert twice in others


def test_one_participant_keeps_its_model() -> None:
    [model] = _models(1, (3, 3))

    merged = Gossip().merge(one_round([model], {}))

    assert torch.equal(merged.own[0]["w"], model["w"])
    assert torch.equal(merged.weights["w"], model["w"])


def test_the_result_is_the_average_of_all_that_have_taken_part() -> None:
    models, absent = _models(2, (50, 50)), {5: {"w": torch.ones(50, 50)}}
    round_ = one_round(models, {}, num_clients=9, own=absent)

    merged = Gossip(variance="none").merge(round_)

    expected = (sum(own["w"] for own in merged.own.values()) + absent[5]["w"]) / 3
    torch.testing.assert_close(merged.weights["w"], expected, rtol=0, atol=1e-6)
    assert set(merged.own) == {0, 1}


@pytest.mark.parametrize(("option", "value"), [("peers", 0), ("own_share", 1.5), ("eps", -1.0)])
def test_options_have_ranges(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{option} must be"):
        Gossip(**{option: value})  # type: ignore[arg-type]  # an int or a float
