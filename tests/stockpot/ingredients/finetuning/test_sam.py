"""Sharpness-aware steps by hand, on a quadratic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stockpot.ingredients.finetuning.sam import sharpness_aware

CURVATURE = torch.tensor([1.0, 4.0])


class _Bowl(nn.Module):
    """A loss of weights, and a buffer that counts how often it was computed."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start))
        self.count: Tensor
        self.register_buffer("count", torch.tensor(0))

    def gradient(self) -> Tensor:
        self.count += 1
        self.zero_grad()
        loss = (CURVATURE * self.weight.square()).sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def test_the_gradient_is_taken_at_the_ascended_point() -> None:
    bowl = _Bowl([3.0, 1.0])

    loss = sharpness_aware(bowl.gradient, bowl, 0.5)

    uphill = torch.tensor([3.0, 4.0]) / 5  # the gradient (3, 4) at (3, 1) has length 5
    torch.testing.assert_close(
        bowl.weight.grad, CURVATURE * (torch.tensor([3.0, 1.0]) + 0.5 * uphill)
    )
    assert loss == (9 + 4) / 2


def test_weights_and_buffers_are_those_after_one_pass() -> None:
    bowl = _Bowl([0.1, 1 / 3])

    sharpness_aware(bowl.gradient, bowl, 0.5)

    assert torch.equal(bowl.weight.detach(), torch.tensor([0.1, 1 / 3]))
    assert bowl.count == 1


def test_without_a_gradient_there_is_no_ascent() -> None:
    bowl = _Bowl([0.0, 0.0])

    assert sharpness_aware(bowl.gradient, bowl, 0.5) == 0
    assert torch.equal(bowl.weight.detach(), torch.zeros(2))
