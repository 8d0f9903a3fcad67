from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from alignment_nets import ResidualNet, mlp, outputs, random_inputs, random_state
from torch import Generator, Tensor, nn

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.soups.alignment import repair
from stockpot.workloads.images.conv_net import ConvNet

State = dict[str, Tensor]
call = nn.Module.__call__
BATCHES = tuple(random_inputs(Generator().manual_seed(seed), 40) for seed in range(2))
NETS = {"mlp": lambda: mlp(width=16), "conv": lambda: ConvNet(10)}


def _parents(net: nn.Module) -> tuple[State, State]:
    first, second = (random_state(net, Generator().manual_seed(seed)) for seed in (1, 2))
    return first, second


def _statistics(
    net: nn.Module, state: State, kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d)
) -> list[tuple[Tensor, Tensor]]:
    """Mean and deviation of each channel that a layer puts out, first layer first."""
    seen: list[tuple[Tensor, Tensor]] = []

    def record(_layer: nn.Module, _inputs: Sequence[Tensor], values: Tensor) -> None:
        dims = [dim for dim in range(values.ndim) if dim != 1]
        seen.append((values.mean(dims), values.std(dims, correction=0)))

    layers = [module for module in net.modules() if isinstance(module, kinds)]
    handles = [layer.register_forward_hook(record) for layer in layers]
    outputs(net, state, torch.cat(BATCHES))
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_each_channel_gets_the_mean_statistics_of_the_parents(name: str, share: float) -> None:
    net = NETS[name]()
    first, second = _parents(net)
    merged = merge_states([first, second], Recipe("linear", (1 - share, share)))

    repaired = repair(net, (first, second), (1 - share, share), merged, call, BATCHES)

    goals = [
        tuple((1 - share) * a + share * b for a, b in zip(one, other, strict=True))
        for one, other in zip(_statistics(net, first), _statistics(net, second), strict=True)
    ]
    torch.testing.assert_close(_statistics(net, repaired), goals, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(_statistics(net, merged)[1][1], goals[1][1], rtol=0.05)


def test_batch_norm_is_repaired_and_what_it_follows_is_left_to_it() -> None:
    net = ResidualNet(pool=True)
    first, second = _parents(net)
    merged = merge_states([first, second], Recipe("linear", (1, 1)))

    repaired = repair(net, (first, second), (1, 1), merged, call, BATCHES)

    kinds = (nn.BatchNorm2d, nn.Linear)
    goals = [
        tuple((a + b) / 2 for a, b in zip(one, other, strict=True))
        for one, other in zip(*(_statistics(net, x, kinds) for x in (first, second)), strict=True)
    ]
    torch.testing.assert_close(_statistics(net, repaired, kinds), goals, atol=1e-4, rtol=1e-4)
    kept = {name for name, tensor in merged.items() if torch.equal(tensor, repaired[name])}
    assert {name for name in merged if "conv" in name or "running" in name} <= kept
    assert not any("norm" in name for name in kept if name.endswith(("weight", "bias")))


def test_only_ratios_of_coefficients_count_and_there_may_be_many() -> None:
    net = mlp(width=4)
    states = [random_state(net, Generator().manual_seed(seed)) for seed in range(3)]
    merged = merge_states(states, Recipe("linear", (1, 2, 1)))

    repaired = [
        repair(net, states, coefficients, merged, call, BATCHES)
        for coefficients in ((0.25, 0.5, 0.25), (1, 2, 1))
    ]

    goals = [
        tuple(a / 4 + b / 2 + c / 4 for a, b, c in zip(*three, strict=True))
        for three in zip(*(_statistics(net, state) for state in states), strict=True)
    ]
    torch.testing.assert_close(repaired[0], repaired[1])
    torch.testing.assert_close(_statistics(net, repaired[0]), goals, atol=1e-4, rtol=1e-4)


def test_a_parent_that_is_its_own_merge_stays_as_it_is() -> None:
    net = mlp()
    state, _ = _parents(net)

    repaired = repair(net, (state, state), (1, 1), state, call, BATCHES)

    torch.testing.assert_close(repaired, state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("constants", [(0.0, 0.0), (100.0, 100.0), (100.0, 100.00001)])
def test_a_channel_that_is_constant_up_to_rounding_is_only_shifted(
    constants: tuple[float, float],
) -> None:
    net = nn.Linear(3, 2)
    first = {"weight": torch.tensor([[0, 0, 1.0], [0, 1, 0]]), "bias": torch.tensor([4.0, 0])}
    merged = {"weight": torch.tensor([[2.0, 0, 0], [0, 2, 0]]), "bias": torch.tensor([5.0, 7.0])}
    batch = torch.randn(50, 3, generator=Generator().manual_seed(0))
    batch[:, 0] = torch.tensor(constants).repeat(25)

    repaired = repair(net, (first, first), (1, 1), merged, call, [batch])

    torch.testing.assert_close(repaired["weight"], torch.tensor([[2.0, 0, 0], [0, 1, 0]]))
    expected = torch.stack([4 + batch[:, 2].mean() - 2 * constants[0], torch.tensor(0.0)])
    torch.testing.assert_close(repaired["bias"], expected, atol=1e-4, rtol=1e-6)


def test_the_net_and_the_states_stay_as_they_are() -> None:
    net = mlp().train()
    first, second = _parents(net)
    states = (first, second, merge_states([first, second], Recipe("linear", (1, 1))))
    before = [{name: x.clone() for name, x in own.items()} for own in (net.state_dict(), *states)]

    repair(net, (first, second), (1, 1), states[2], call, BATCHES)

    torch.testing.assert_close([net.state_dict(), *states], before, atol=0, rtol=0)
    assert net.training


def _tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    return net


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            nn.Sequential(nn.Linear(8, 8, bias=False), nn.LayerNorm(8)),
            "must have a bias, or BatchNorm directly after it, got neither for '0'",
        ),
        (nn.BatchNorm2d(1, affine=False), "got neither for ''"),
        (nn.ConvTranspose2d(1, 1, 2), "a convolution must not be transposed, got ''"),
        (_tied(), "layers must not share weights, got"),
    ],
)
def test_nets_that_cannot_be_repaired_are_refused(net: nn.Module, message: str) -> None:
    state = net.state_dict()

    with pytest.raises(InputError, match=message):
        repair(net, (state, state), (1, 1), state, call, BATCHES)


@pytest.mark.parametrize(
    "coefficients", [(1.0,), (0.5, -0.1), (0, 0), (float("nan"), 1), (float("inf"), 1)]
)
def test_coefficients_that_do_not_fit_are_refused(coefficients: tuple[float, ...]) -> None:
    net = nn.Linear(8, 8)
    state = net.state_dict()

    with pytest.raises(InputError, match=r"coefficients must be 2 finite numbers of at least 0"):
        repair(net, (state, state), coefficients, state, call, BATCHES)


def test_no_batches_are_refused() -> None:
    net = nn.Linear(8, 8)
    state = net.state_dict()

    with pytest.raises(InputError, match="batches must be at least 1, got 0"):
        repair(net, (state, state), (1, 1), state, call, ())
