"""AdamP: AdamW, except for scale-invariant weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from stockpot.ingredients.finetuning.adamp import AdamP


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))


def _target(weight: Tensor) -> Tensor:
    return torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))


def _descend(optimizer: Optimizer, weight: Tensor, *, invariant: bool, steps: int = 20) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        seen = weight / weight.norm(dim=1, keepdim=True) if invariant else weight
        (seen * _target(weight)).sum().backward()
        optimizer.step()


@pytest.mark.parametrize(("delta", "shape"), [(0.0, (4, 6)), (0.1, (6,))])
def test_without_projection_it_is_adamw(delta: float, shape: tuple[int, ...]) -> None:
    ours, torch_s = _weight(*shape), _weight(*shape)

    _descend(AdamP([ours], lr=0.1, weight_decay=0.1, delta=delta), ours, invariant=False)
    _descend(AdamW([torch_s], lr=0.1, weight_decay=0.1), torch_s, invariant=False)

    torch.testing.assert_close(ours, torch_s, rtol=1e-6, atol=1e-6)


def test_the_first_step_of_a_scale_invariant_weight_has_no_radial_part() -> None:
    weight = _weight(4, 6)
    before = weight.detach().clone()

    _descend(AdamP([weight], lr=0.01), weight, invariant=True, steps=1)

    change = weight.detach() - before
    assert change.norm() > 0.01
    torch.testing.assert_close((change * before).sum(dim=1), torch.zeros(4), rtol=0, atol=1e-6)


def test_scale_invariant_weights_keep_their_norm_where_adamw_lengthens_them() -> None:
    ours, torch_s = _weight(4, 6), _weight(4, 6)
    before = ours.detach().norm(dim=1)

    _descend(AdamP([ours], lr=0.01), ours, invariant=True)
    _descend(AdamW([torch_s], lr=0.01, weight_decay=0), torch_s, invariant=True)

    growth, torch_growth = (
        (each.detach().norm(dim=1) / before - 1).abs().max() for each in (ours, torch_s)
    )
    assert growth < 0.01
    assert torch_growth > 2 * growth


def test_a_weight_whose_gradient_points_along_it_is_not_projected() -> None:
    ours, torch_s = _weight(4, 6), _weight(4, 6)

    for each, optimizer in ((ours, AdamP([ours], lr=0.1)), (torch_s, AdamW([torch_s], lr=0.1))):
        each.grad = each.detach().clone()
        optimizer.param_groups[0]["weight_decay"] = 0
        optimizer.step()

    torch.testing.assert_close(ours, torch_s)


def test_its_options_scale_the_decay_and_look_ahead() -> None:
    weight = nn.Parameter(torch.tensor([[2.0, 0.0]]))
    weight.grad = torch.tensor([[0.0, 3.0]])  # at a right angle, so scale-invariant
    optimizer = AdamP([weight], lr=0.1, weight_decay=0.5, wd_ratio=0.2, nesterov=True)

    optimizer.step()

    # The mean gradient is 0.3; looking ahead, 0.9 * 0.3 + 0.1 * 3 = 0.57; the root is 3.
    expected = torch.tensor([[2 * (1 - 0.1 * 0.5 * 0.2), -0.1 / 0.1 * 0.57 / 3]])
    torch.testing.assert_close(weight.detach(), expected)
