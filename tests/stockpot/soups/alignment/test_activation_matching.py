from __future__ import annotations

import itertools

import pytest
import torch
from alignment_nets import NETS, mlp, random_inputs, random_state, seeded
from torch import Generator, Tensor, nn

from stockpot.errors import InputError
from stockpot.soups.alignment import (
    Spec,
    check_spec,
    match_activations,
    permute,
    random_permutations,
    trace_spec,
)

State = dict[str, Tensor]
call = nn.Module.__call__
BATCHES = tuple(random_inputs(Generator().manual_seed(seed), 40) for seed in range(2))
READ: Spec = {"weight": (None, "P"), "bias": (None,)}
WRITTEN: Spec = {"weight": ("P", None), "bias": ("P",)}


def _linear(weight: Tensor) -> tuple[nn.Module, State]:
    return nn.Linear(*reversed(weight.shape)), {"weight": weight, "bias": torch.zeros(len(weight))}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(2))
def test_a_permuted_copy_is_put_back_exactly(name: str, seed: int) -> None:
    net = seeded(NETS[name](), seed)
    state = {x: tensor.clone() for x, tensor in net.state_dict().items()}
    spec = trace_spec(net, BATCHES[0])
    drawn = random_permutations(check_spec(spec, state), Generator().manual_seed(seed))
    copy = permute(state, spec, drawn)

    found = match_activations(net, (state, copy), spec, call, BATCHES)

    aligned = permute(copy, spec, found)
    assert all(torch.equal(aligned[x], state[x]) for x in state)


def test_the_sum_of_correlations_is_the_largest_of_all() -> None:
    generator = Generator().manual_seed(0)
    net, first = _linear(torch.randn(5, 8, generator=generator))
    second = {**first, "weight": torch.randn(5, 8, generator=generator)}
    batch = torch.randn(60, 8, generator=generator)

    found = match_activations(net, (first, second), WRITTEN, call, batch.split(20))["P"]

    responses = torch.cat([batch @ first["weight"].T, batch @ second["weight"].T], dim=1)
    correlations = torch.corrcoef(responses.T)[:5, 5:]
    sums = {
        order: float(correlations[range(5), order].sum())
        for order in itertools.permutations(range(5))
    }
    assert tuple(found.tolist()) == max(sums, key=sums.__getitem__)


def test_scale_shift_and_batches_do_not_matter() -> None:
    generator = Generator().manual_seed(0)
    net, first = _linear(torch.randn(6, 8, generator=generator))
    second = {**first, "weight": torch.randn(6, 8, generator=generator)}
    changed = {"weight": 7 * second["weight"], "bias": torch.arange(6.0)}
    batch = torch.randn(60, 8, generator=generator)

    found = [
        match_activations(net, (first, state), WRITTEN, call, batches)["P"]
        for state, batches in ((second, [batch]), (changed, [batch]), (second, batch.split(7)))
    ]

    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_units_that_are_constant_take_what_is_left() -> None:
    net, first = _linear(torch.tensor([[0.0, 0], [1, 0], [0, 1]]))
    second = {**first, "weight": first["weight"][[1, 2, 0]]}
    batch = torch.randn(30, 2, generator=Generator().manual_seed(0))

    found = match_activations(net, (first, second), WRITTEN, call, [batch])

    assert found["P"].tolist() == [2, 0, 1]


def test_units_that_are_only_read_are_matched_by_what_is_read() -> None:
    net, state = _linear(torch.randn(2, 3, generator=Generator().manual_seed(0)))
    batch = torch.randn(30, 3, generator=Generator().manual_seed(1))

    found = match_activations(net, (state, state), READ, call, [batch])

    assert found["P"].tolist() == [0, 1, 2]


def test_the_net_and_the_states_stay_as_they_are() -> None:
    net = seeded(mlp()).train()
    spec = trace_spec(net, BATCHES[0])
    pair = tuple(random_state(net, Generator().manual_seed(seed)) for seed in (1, 2))
    before = [{name: x.clone() for name, x in own.items()} for own in (net.state_dict(), *pair)]

    match_activations(net, pair, spec, call, BATCHES)

    torch.testing.assert_close([net.state_dict(), *pair], before, atol=0, rtol=0)
    assert net.training


def test_no_batches_are_refused() -> None:
    net, state = _linear(torch.ones(2, 2))

    with pytest.raises(InputError, match="batches must be at least 1, got 0"):
        match_activations(net, (state, state), WRITTEN, call, [])


def test_units_that_no_layer_uses_need_another_matching() -> None:
    net = nn.LayerNorm(3)
    state = dict(net.state_dict())

    with pytest.raises(InputError, match="got 'P'; match the weights instead"):
        match_activations(
            net, (state, state), {"weight": ("P",), "bias": ("P",)}, call, [torch.ones(2, 3)]
        )
