"""SGDP: SGD with momentum, except for scale-invariant weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from stockpot.ingredients.finetuning.sgdp import SGDP


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))


def _descend(optimizer: Optimizer, weight: Tensor, *, invariant: bool, steps: int = 20) -> None:
    target = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        seen = weight / weight.norm(dim=1, keepdim=True) if invariant else weight
        (seen * target).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("delta", "shape"), [(0.0, (4, 6)), (0.1, (6,))])
def test_without_projection_it_is_sgd(
    delta: float, shape: tuple[int, ...], *, nesterov: bool
) -> None:
    ours, torch_s = _weight(*shape), _weight(*shape)

    _descend(SGDP([ours], lr=0.01, delta=delta, nesterov=nesterov), ours, invariant=False)
    plain = SGD([torch_s], lr=0.01, momentum=0.9, nesterov=nesterov)
    _descend(plain, torch_s, invariant=False)

    torch.testing.assert_close(ours, torch_s)


def test_a_scale_invariant_weight_has_no_radial_step_and_hardly_grows() -> None:
    ours, torch_s = _weight(4, 6), _weight(4, 6)
    before = ours.detach().clone()
    optimizer = SGDP([ours], lr=0.01)

    _descend(optimizer, ours, invariant=True, steps=1)
    change = ours.detach() - before
    assert change.norm() > 1e-3
    torch.testing.assert_close((change * before).sum(dim=1), torch.zeros(4), rtol=0, atol=1e-6)

    _descend(optimizer, ours, invariant=True)
    _descend(SGD([torch_s], lr=0.01, momentum=0.9), torch_s, invariant=True, steps=21)
    lengths = before.norm(dim=1)
    growth, torch_growth = (
        (each.detach().norm(dim=1) / lengths - 1).abs().max() for each in (ours, torch_s)
    )
    assert growth < torch_growth


@pytest.mark.parametrize(("slope", "ratio"), [([[0.0, 3.0]], 0.2), ([[3.0, 0.0]], 1.0)])
def test_the_weight_decay_of_one_step(slope: list[list[float]], ratio: float) -> None:
    weight = nn.Parameter(torch.tensor([[2.0, 0.0]]))
    weight.grad = torch.tensor(slope)

    SGDP([weight], lr=0.1, momentum=0.5, weight_decay=0.4, wd_ratio=0.2).step()

    decayed = torch.tensor([[2.0, 0.0]]) * (1 - 0.1 * 0.4 * ratio / 0.5)
    torch.testing.assert_close(weight.detach(), decayed - 0.1 * torch.tensor(slope))
