from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.wudi import wudi


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(59)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def _interference(merged: Tensor, task_vectors: list[Tensor]) -> Tensor:
    terms = [
        ((merged - vector) @ vector.T).square().sum() / vector.square().sum()
        for vector in task_vectors
    ]
    return torch.stack(terms).sum()


def test_the_first_step_of_wudi_computed_by_hand() -> None:
    # The interference of x is (x - 3)^2 + (x - 1)^2, which grows at the sum of both, 4: Adam's
    # first step is the learning rate against the sign of the gradient.
    tensors = [torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 0.0]])]

    merged = wudi(tensors, torch.zeros(1, 2), steps=1, learning_rate=0.5)

    torch.testing.assert_close(merged, torch.tensor([[3.5, 0.0]]))


@pytest.mark.parametrize("shape", [(3, 5), (2, 40), (5, 3)], ids=str)
def test_wudi_is_adam_of_torch_on_the_interference(shape: tuple[int, int]) -> None:
    *tensors, base = [tensor.double() for tensor in _random(shape, 4)]
    task_vectors = [tensor - base for tensor in tensors]
    x = torch.stack(task_vectors).sum(dim=0).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=1e-2)
    for _ in range(50):
        optimizer.zero_grad()
        _interference(x, task_vectors).backward()
        optimizer.step()

    merged = wudi(tensors, base, steps=50, learning_rate=1e-2)

    torch.testing.assert_close(merged, base + x.detach())


def test_wudi_interferes_less_than_the_sum_of_task_vectors() -> None:
    tensors = _random((8, 16), 3)
    base = torch.zeros(8, 16)

    merged = wudi(tensors, base, steps=1000, learning_rate=1e-2)

    of_sum = _interference(torch.stack(tensors).sum(dim=0), tensors)
    assert float(_interference(merged, tensors)) < 0.5 * float(of_sum)


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 40), (2, 3, 3, 3)], ids=str)
def test_the_only_changed_model_stays(shape: tuple[int, ...]) -> None:
    tensor, base = _random(shape, 2)

    merged = wudi([tensor], base, learning_rate=0.1)

    torch.testing.assert_close(merged, tensor)


def test_a_model_equal_to_the_base_does_not_pull() -> None:
    tensor, base = _random((3, 5), 2)

    merged = wudi([tensor, base.clone()], base, learning_rate=0.1)

    torch.testing.assert_close(merged, tensor)


def test_without_steps_wudi_is_the_sum_of_task_vectors() -> None:
    first, second, base = _random((3, 5), 3)

    merged = wudi([first, second], base, steps=0, scale=0.5)

    torch.testing.assert_close(merged, base + 0.5 * (first - base) + 0.5 * (second - base))


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 3, 3)], ids=str)
def test_what_is_no_matrix_gets_the_mean_of_task_vectors(shape: tuple[int, ...]) -> None:
    first, second, base = _random(shape, 3)

    merged = wudi([first, second], base, scale=0.6)

    torch.testing.assert_close(merged, base + 0.3 * (first - base) + 0.3 * (second - base))


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"steps": -1}, "steps must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"scale": float("nan")}, "scale must be finite"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], rule: str) -> None:
    *tensors, base = _random((2, 2), 3)

    with pytest.raises(ValueError, match=f"wudi: {rule}, got"):
        wudi(tensors, base, **options)
