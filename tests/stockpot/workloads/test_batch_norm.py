from __future__ import annotations

import pytest
import torch
from alignment_nets import ResidualNet, mlp, random_inputs, seeded
from torch import Generator, Tensor, nn

from stockpot.errors import InputError
from stockpot.soups.alignment import recalibrate_batch_norm

call = nn.Module.__call__


def _batches(number: int = 4) -> list[Tensor]:
    generator = Generator().manual_seed(0)
    return [random_inputs(generator, 8) for _ in range(number)]


def _copy(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def _refuse(*_: object) -> None:
    pytest.fail("the net was run")


def test_statistics_become_the_means_of_those_of_the_batches() -> None:
    norm = nn.BatchNorm1d(3)
    batches = [torch.randn(8, 3, generator=Generator().manual_seed(seed)) for seed in range(5)]

    recalibrate_batch_norm(norm, call, batches, fraction=1)

    torch.testing.assert_close(norm.running_mean, torch.stack(batches).mean(dim=(0, 1)))
    torch.testing.assert_close(
        norm.running_var, torch.stack([x.var(dim=0) for x in batches]).mean(dim=0)
    )


def test_twice_is_once_bit_for_bit() -> None:
    net = seeded(ResidualNet(pool=True))
    recalibrate_batch_norm(net, call, _batches())
    once = _copy(net)

    recalibrate_batch_norm(net, call, _batches())

    assert all(torch.equal(tensor, once[name]) for name, tensor in net.state_dict().items())


def test_weights_modes_and_momenta_stay() -> None:
    net = seeded(ResidualNet(pool=True)).train()
    net.stem.eval()
    net.block.norm1.momentum = 0.3
    before, modes = _copy(net), [module.training for module in net.modules()]

    recalibrate_batch_norm(net, call, _batches())

    changed = {name for name, x in net.state_dict().items() if not torch.equal(x, before[name])}
    assert {name.rpartition(".")[2] for name in changed} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    assert [module.training for module in net.modules()] == modes
    assert (net.block.norm1.momentum, net.block.norm2.momentum) == (0.3, 0.1)


def test_modes_and_momenta_are_restored_when_the_net_fails() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3, momentum=0.4)).eval()

    with pytest.raises(ValueError, match="expected 2D or 3D input"):
        recalibrate_batch_norm(net, call, [torch.ones(3)])

    assert (net[0].training, net[0].momentum) == (False, 0.4)


def test_dropout_is_off_meanwhile() -> None:
    norm = nn.BatchNorm1d(2)
    net = nn.Sequential(nn.Dropout(0.5), norm).train()

    recalibrate_batch_norm(net, call, [torch.ones(100, 2)])

    assert torch.equal(norm.running_mean, torch.ones(2))


@pytest.mark.parametrize(
    ("fraction", "number", "used"), [(0.2, 10, 2), (0.2, 1, 1), (0.01, 9, 1), (1, 3, 3)]
)
def test_the_first_batches_are_used_and_at_least_one(
    fraction: float, number: int, used: int
) -> None:
    norm = nn.BatchNorm2d(1)
    batches = _batches(number)

    recalibrate_batch_norm(norm, call, batches, fraction=fraction)

    assert norm.num_batches_tracked == used
    torch.testing.assert_close(norm.running_mean[0], torch.stack(batches[:used]).mean())


def test_a_net_without_batch_norm_is_not_run() -> None:
    recalibrate_batch_norm(mlp(), _refuse, _batches())


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match=r"fraction must be in \(0, 1\], got"):
        recalibrate_batch_norm(nn.BatchNorm2d(1), call, _batches(), fraction=fraction)


def test_no_batches_are_refused() -> None:
    with pytest.raises(InputError, match="batches must be at least 1, got 0"):
        recalibrate_batch_norm(nn.BatchNorm2d(1), call, [])
