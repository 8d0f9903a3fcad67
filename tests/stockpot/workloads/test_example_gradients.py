"""Gradients of single examples: the same together and one at a time, for any net."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_text_workloads import bert_workload, llama_workload
from torch import Tensor, nn

from stockpot.seeding import seeded_generator
from stockpot.workloads import build_workload, example_gradients
from stockpot.workloads.batches import take
from stockpot.workloads.example_gradients import ExampleGradients
from stockpot.workloads.passes import empty_model
from stockpot.workloads.protocol import Batch, Workload

DIGITS = build_workload("digits", seed=0, val_shifts=[], test_shifts=[], options={})


class Branching(nn.Linear):
    """A linear layer whose control flow depends on values, which vmap does not support."""

    def forward(self, points: Tensor) -> Tensor:
        return super().forward(points) if points.sum().item() > 1e9 else super().forward(-points)


def flat(outputs: Tensor, _example: Batch) -> Tensor:
    return outputs[0].flatten()


def by_hand(
    workload: Workload, net: nn.Module, batch: Batch, numbers: Callable[..., Tensor]
) -> dict[str, Tensor]:
    """Differentiate each number of each example by itself."""
    own = dict(net.named_parameters())
    rows: dict[str, list[Tensor]] = {name: [] for name in own}
    for row in range(len(batch[-1])):
        example = tuple(tensor[row : row + 1] for tensor in batch)
        found = numbers(workload.forward(net, example), example)
        slopes = [
            torch.autograd.grad(n, [*own.values()], retain_graph=True, materialize_grads=True)
            for n in found
        ]
        for name, column in zip(own, zip(*slopes, strict=True), strict=True):
            rows[name].append(torch.stack(column))
    return {name: torch.stack(each) for name, each in rows.items()}


def joined(gradients: ExampleGradients, batch: Batch, *extras: Any, **options: Any) -> Any:
    parts = [found for _, found in gradients.parts(batch, *extras, **options)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("make", [bert_workload, llama_workload])
def test_transformers_have_the_gradients_of_each_text_by_itself(
    make: Callable[[Path], Workload], tmp_path: Path
) -> None:
    workload = make(tmp_path)
    net = empty_model(workload, "cpu")
    batch = take(workload.dataset("train"), torch.arange(3))
    most = workload.forward(net, batch)[0].numel()

    found = joined(ExampleGradients(workload, net), batch, flat, most=most)

    expected = by_hand(workload, net, batch, flat)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_together", [True, False])
def test_a_net_has_the_same_gradients_together_and_one_at_a_time(is_together: bool) -> None:
    net = empty_model(DIGITS, "cpu")
    batch = take(DIGITS.dataset("train"), torch.arange(4))
    gradients = ExampleGradients(DIGITS, net)
    gradients._are_together = is_together

    found = joined(gradients, batch, flat, most=10)

    assert gradients._are_together == is_together
    torch.testing.assert_close(found, by_hand(DIGITS, net, batch, flat), rtol=1e-4, atol=1e-5)


def test_a_net_that_vmap_does_not_support_is_passed_one_example_at_a_time() -> None:
    net = Branching(2, 3)
    batch = (torch.tensor([[1.0, 2.0], [3.0, -4.0]]), torch.zeros(2))
    gradients = ExampleGradients(DIGITS, net, ["weight"])

    found = joined(gradients, batch, flat, most=3)

    expected = -torch.einsum("kc,nd->nkcd", torch.eye(3), batch[0])
    assert found.keys() == {"weight"}
    torch.testing.assert_close(found["weight"], expected)


def test_what_is_wrong_with_the_net_itself_is_raised() -> None:
    batch = (torch.zeros(2, 5), torch.zeros(2))

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        joined(ExampleGradients(DIGITS, nn.Linear(2, 3)), batch, flat)


@pytest.mark.parametrize("kind", [nn.Linear, Branching])
def test_a_weight_without_effect_has_gradients_of_zeros(kind: type[nn.Module]) -> None:
    net = kind(2, 3)

    found = joined(
        ExampleGradients(DIGITS, net), (torch.ones(2, 2), torch.zeros(2)), lambda *_: torch.ones(1)
    )

    assert {name: tuple(each.shape) for name, each in found.items()} == {
        "weight": (2, 1, 3, 2),
        "bias": (2, 1, 3),
    }
    assert not any(each.any() for each in found.values())


@pytest.mark.parametrize("room", [1, 40, 10**6])
@pytest.mark.parametrize("kind", [nn.Linear, Branching])
def test_extras_go_with_their_example_however_many_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch, kind: type[nn.Module], room: int
) -> None:
    monkeypatch.setattr(example_gradients, "_AT_ONCE", room)
    net = kind(2, 3)
    points = torch.randn(5, 2, generator=seeded_generator(0, "points"))
    factors = torch.arange(5.0)

    def scaled(outputs: Tensor, _example: Batch, factor: Tensor) -> Tensor:
        return factor * outputs.sum()

    found = joined(ExampleGradients(DIGITS, net), (points, torch.zeros(5)), scaled, factors)

    sign = -1 if kind is Branching else 1
    expected = sign * (factors[:, None] * points)[:, None, None].expand(5, 1, 3, 2)
    torch.testing.assert_close(found["weight"], expected)
