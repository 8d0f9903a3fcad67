from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from alignment_nets import ResidualNet, mlp, outputs, random_inputs, random_state
from torch import Generator, Tensor, nn

from stockpot.alignment import repair
from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.workloads.conv_net import ConvNet

State = dict[str, Tensor]
call = nn.Module.__call__
BATCHES = tuple(random_inputs(Generator().manual_seed(seed), 40) for seed in range(2))
NETS = {"mlp": lambda: mlp(width=16), "conv": lambda: ConvNet(10)}


def _parents(net: nn.Module) -> tuple[State, State]:
    first, second = (random_state(net, Generator().manual_seed(seed)) for seed in (1, 2))
    return first, second


def _statistics(net: nn.Module, state: State) -> list[tuple[Tensor, Tensor]]:
    """Mean and deviation of each channel that a layer puts out, first layer first."""
    seen: list[tuple[Tensor, Tensor]] = []

    def record(_layer: nn.Module, _inputs: Sequence[Tensor], values: Tensor) -> None:
        dims = [dim for dim in range(values.ndim) if dim != 1]
        seen.append((values.mean(dims), values.std(dims, correction=0)))

    layers = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
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

    repaired = repair(net, (first, second), merged, share, call, BATCHES)

    goals = [
        tuple((1 - share) * a + share * b for a, b in zip(one, other, strict=True))
        for one, other in zip(_statistics(net, first), _statistics(net, second), strict=True)
    ]
    torch.testing.assert_close(_statistics(net, repaired), goals, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(_statistics(net, merged)[1][1], goals[1][1], rtol=0.05)


def test_a_parent_that_is_its_own_merge_stays_as_it_is() -> None:
    net = mlp()
    state, _ = _parents(net)

    repaired = repair(net, (state, state), state, 0.5, call, BATCHES)

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

    repaired = repair(net, (first, first), merged, 0.5, call, [batch])

    torch.testing.assert_close(repaired["weight"], torch.tensor([[2.0, 0, 0], [0, 1, 0]]))
    expected = torch.stack([4 + batch[:, 2].mean() - 2 * constants[0], torch.tensor(0.0)])
    torch.testing.assert_close(repaired["bias"], expected, atol=1e-4, rtol=1e-6)


def test_the_net_and_the_states_stay_as_they_are() -> None:
    net = mlp().train()
    first, second = _parents(net)
    states = (first, second, merge_states([first, second], Recipe("linear", (1, 1))))
    before = [{name: x.clone() for name, x in own.items()} for own in (net.state_dict(), *states)]

    repair(net, (first, second), states[2], 0.5, call, BATCHES)

    torch.testing.assert_close([net.state_dict(), *states], before, atol=0, rtol=0)
    assert net.training


def _tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    return net


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (ResidualNet(pool=True), "must have no BatchNorm, got some; recalibrate it instead"),
        (nn.Linear(2, 2, bias=False), "must have a bias to be shifted, got none in ''"),
        (nn.ConvTranspose2d(1, 1, 2), "a convolution must not be transposed, got ''"),
        (_tied(), "layers must share no weights, got"),
    ],
)
def test_nets_that_cannot_be_repaired_are_refused(net: nn.Module, message: str) -> None:
    state = net.state_dict()

    with pytest.raises(InputError, match=message):
        repair(net, (state, state), state, 0.5, call, BATCHES)


@pytest.mark.parametrize(
    ("share", "batches", "message"),
    [
        (1.5, BATCHES, r"share must be in \[0, 1\], got 1\.5"),
        (0.5, (), "batches must be at least 1, got 0"),
    ],
)
def test_a_share_out_of_range_or_no_batches_are_refused(
    share: float, batches: Sequence[Tensor], message: str
) -> None:
    net = nn.Linear(2, 2)

    with pytest.raises(InputError, match=message):
        repair(net, (net.state_dict(),) * 2, net.state_dict(), share, call, batches)
