from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_context import DIGITS
from torch import Tensor, nn

from stockpot.diagnostics.tangent_kernel import KernelSize, alignment, kernel_size, tangent_kernel

WORKLOAD = DIGITS.build()


def _net() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return net


def _batch(num_examples: int = 11) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(num_examples, 3, generator=generator, dtype=torch.float64)
    return inputs, torch.zeros(num_examples)


def _names(net: nn.Module) -> list[str]:
    return [name for name, _ in net.named_parameters()]


def test_the_kernel_is_the_product_of_gradients_one_an_example_and_output() -> None:
    net, batch = _net(), _batch(3)
    rows = []
    for output in net(batch[0]).flatten():
        gradients = torch.autograd.grad(output, list(net.parameters()), retain_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))

    kernel = tangent_kernel(WORKLOAD, net, batch, [_names(net)])

    jacobian = torch.stack(rows)  # (N * C, P)
    torch.testing.assert_close(kernel, jacobian @ jacobian.T)


def test_groups_of_parameters_add_up() -> None:
    net, batch = _net(), _batch()
    names = _names(net)

    whole = tangent_kernel(WORKLOAD, net, batch, [names])
    parts = tangent_kernel(WORKLOAD, net, batch, [[name] for name in names])

    torch.testing.assert_close(parts, whole)


def test_the_kernel_of_a_linear_net_never_turns() -> None:
    first, second = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    kernels = [tangent_kernel(WORKLOAD, net, _batch(), [_names(net)]) for net in (first, second)]

    torch.testing.assert_close(*kernels)
    assert alignment(*kernels) == pytest.approx(1, abs=1e-12)


def _train(alpha: float) -> nn.Sequential:
    """Fit alpha times (the net's outputs less the first ones), at learning rate lr / alpha^2."""
    net, (inputs, _) = _net(), _batch()
    targets = torch.sin(3 * inputs[:, :2])
    start = net(inputs).detach()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05 / alpha**2)
    for _ in range(150):
        optimizer.zero_grad()
        (alpha * (net(inputs) - start) - targets).square().mean().backward()
        optimizer.step()
    return net


def test_scaling_outputs_makes_training_lazier() -> None:
    start, batch = _net(), _batch()
    before = tangent_kernel(WORKLOAD, start, batch, [_names(start)])

    turned = [
        1 - alignment(tangent_kernel(WORKLOAD, _train(alpha), batch, [_names(start)]), before)
        for alpha in (0.5, 4.0, 32.0)
    ]

    assert turned[0] > 5 * turned[1] > 25 * turned[2]
    assert turned[2] < 1e-3


def test_kernels_of_zeros_are_alike_and_unlike_others() -> None:
    zeros, ones = torch.zeros(2, 2), torch.ones(2, 2)

    assert alignment(zeros, zeros) == 1
    assert alignment(zeros, ones) == 0


def test_all_rows_and_parameters_are_used_where_they_fit() -> None:
    size = kernel_size({"a": 60, "b": 40}, num_rows=32, num_outputs=10, max_numbers=32000)

    assert size == KernelSize(32, (("b", "a"),), 100)


def test_what_does_not_fit_at_once_is_done_in_groups_of_all_rows() -> None:
    size = kernel_size({"a": 60, "b": 40, "c": 50}, 32, 10, max_numbers=32000)

    assert size == KernelSize(32, (("c", "b"), ("a",)), 150)


def test_then_rows_are_halved_and_at_last_the_first_parameters_left_out() -> None:
    sizes = {"huge": 10**6, "first": 500, "middle": 300, "last": 400}

    size = kernel_size(sizes, 32, 10, max_numbers=40000)

    assert size.num_rows == 8
    assert size.groups == (("last",), ("middle",), ("first",))


@given(
    sizes=st.lists(st.integers(1, 10**9), min_size=1, max_size=12),
    num_rows=st.integers(1, 40),
    num_outputs=st.integers(1, 1000),
    max_numbers=st.integers(1, 2**27),
)
def test_no_group_is_larger_than_allowed(
    sizes: list[int], num_rows: int, num_outputs: int, max_numbers: int
) -> None:
    named = {str(place): size for place, size in enumerate(sizes)}

    size = kernel_size(named, num_rows, num_outputs, max_numbers)

    chosen = [name for group in size.groups for name in group]
    assert len(chosen) == len(set(chosen))
    assert size.num_params == sum(named[name] for name in chosen)
    assert min(num_rows, 8) <= size.num_rows <= num_rows
    for group in size.groups:
        rows = size.num_rows * num_outputs
        assert rows * sum(named[name] for name in group) <= max_numbers
