"""Masks that move: exchanged by magnitude and gradient, at a density that never changes."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.combinations import check_combination
from stockpot.ingredients.finetuning.dynamic_mask import DynamicMask, exchanged
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.merging.sparse_masks import magnitude_mask, nonzero_mask
from stockpot.workloads.digits import Digits

HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.1,
    epochs=2,
    batch_size=64,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    sparsity=0.8,
    sparsity_update_every=2,
)
DIGITS = Digits(0, [], [])
State = dict[str, Tensor]


def _start() -> State:
    return dict(DIGITS.build_model(torch.Generator().manual_seed(1)).state_dict())


def _train(**how: float | str) -> State:
    hyperparameters = replace(HOW, **how)  # type: ignore[arg-type]
    return dict(fine_tune(DIGITS, _start(), hyperparameters, split="pretrain"))


def _equal(first: State, second: State) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_smallest_weights_are_exchanged_for_those_with_the_largest_scores() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    weight = torch.tensor([[0.3, -0.1, 2.0], [-0.2, 0.0, 0.0], [0.0, 0.0, 0.0]])
    scores = torch.tensor([[9.0, 9.0, 9.0], [9.0, 1.0, 4.0], [0.0, 3.0, 3.0]])

    result = exchanged(mask, weight, scores, 0.5)

    # -0.1 and -0.2 leave; of the others, 4.0 and the first 3.0 enter.
    expected = [[True, False, True], [False, False, True], [False, True, False]]
    assert result.tolist() == expected


@given(
    size=st.integers(1, 40),
    density=st.floats(0, 1),
    share=st.floats(0, 1),
    levels=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_as_many_enter_as_leave_also_where_values_are_tied(
    size: int, density: float, share: float, levels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(size, generator=generator) < density
    weight, scores = (torch.randint(levels, (size,), generator=generator).float() for _ in range(2))

    result = exchanged(mask, weight * mask, scores, share)

    num_inside = int(mask.sum())
    assert int(result.sum()) == num_inside
    assert int((result & ~mask).sum()) == min(round(share * num_inside), size - num_inside)


def _net() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, generator=generator)
    return net


def _backward(net: nn.Module, inputs: Tensor) -> None:
    net(inputs).square().mean().backward()


def _moments(optimizer: Optimizer, weight: Tensor) -> list[Tensor]:
    return [one for one in optimizer.state[weight].values() if one.shape == weight.shape]


@pytest.mark.parametrize("grow", ["gradient", "random"])
@pytest.mark.parametrize("optimizer_of", [AdamW, lambda each: SGD(each, 0.1, momentum=0.9)])
def test_each_update_changes_its_share_and_what_changes_is_zero(grow, optimizer_of) -> None:
    net, total, drop = _net(), 12, 0.6
    optimizer = optimizer_of(net.parameters())
    how = replace(HOW, sparsity=0.5, sparsity_drop=drop, sparsity_grow=grow)
    mask = DynamicMask(net, optimizer, how, total)
    inputs = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
    sizes = {name: int(inside.sum()) for name, inside in mask.state_dict().items()}

    num_changed = []
    for step in range(total):
        before = {name: inside.clone() for name, inside in mask.state_dict().items()}
        optimizer.zero_grad()
        _backward(net, inputs)
        optimizer.step()
        mask.update(step)
        for name, inside in mask.state_dict().items():
            weight = net.get_parameter(name)
            entered = inside & ~before[name]
            assert int(inside.sum()) == sizes[name]
            for tensor in (weight, *_moments(optimizer, weight)):
                assert not tensor[~inside | entered].any()
        num_changed.append({n: int((m & ~before[n]).sum()) for n, m in mask.state_dict().items()})

    assert sizes["0.weight"] + sizes["2.weight"] == (6 * 8 + 8 * 3) / 2
    for step, changed in enumerate(num_changed, start=1):
        is_due = step % 2 == 0 and step < 0.75 * total
        share = drop / 2 * (1 + math.cos(math.pi * step / (0.75 * total))) if is_due else 0
        assert changed == {name: round(share * size) for name, size in sizes.items()}


def test_the_largest_gradients_of_the_whole_step_enter() -> None:
    net = _net()
    how = replace(HOW, sparsity=0.5, sparsity_update_every=1, sparsity_drop=0.5)
    mask = DynamicMask(net, optimizer := AdamW(net.parameters()), how, total=100)
    parts = torch.randn(2, 16, 6, generator=torch.Generator().manual_seed(1))
    dense = copy.deepcopy(net)  # whose gradients are not masked
    before = {name: inside.clone() for name, inside in mask.state_dict().items()}
    for one in (net, dense):
        for part in parts:  # accumulated
            _backward(one, part)

    masked = {n: one.grad.clone() for n, one in net.named_parameters() if one.grad is not None}
    optimizer.step()
    mask.update(0)

    for name, inside in mask.state_dict().items():
        gradient = dense.get_parameter(name).grad
        assert gradient is not None
        torch.testing.assert_close(masked[name], gradient.where(before[name], 0))
        entered, stayed_out = inside & ~before[name], ~inside & ~before[name]
        assert entered.any()
        assert gradient[entered].abs().min() >= gradient[stayed_out].abs().max()


@pytest.mark.parametrize(
    "technique",
    [
        {"sam_radius": 0.05, "accumulation": 2},
        {"precision": "fp16", "optimizer": "sgd", "sparsity_grow": "random", "clip_norm": 1.0},
    ],
    ids=str,
)
def test_a_run_ends_with_another_mask_of_the_same_density(technique) -> None:
    first = magnitude_mask(_start(), 0.2)

    mask = nonzero_mask(_train(**technique))

    assert all(int(mask[name].sum()) <= int(first[name].sum()) for name in first)
    num_kept, num_first = (sum(int(one.sum()) for one in each.values()) for each in (mask, first))
    assert num_kept > 0.98 * num_first  # a new weight without a gradient is still 0
    assert any((mask[name] & ~first[name]).any() for name in first)


@pytest.mark.parametrize("still", [{"sparsity_drop": 0.0}, {"sparsity_update_every": 100}])
def test_without_exchanges_it_is_the_fixed_mask_bit_for_bit(still) -> None:
    fixed = _train(sparsity_update_every=0)

    assert _equal(_train(**still), fixed)
    assert not _equal(_train(), fixed)


def test_masks_of_other_seeds_differ_and_without_sparsity_nothing_moves() -> None:
    first, second = (nonzero_mask(_train(sparsity_grow="random", seed=seed)) for seed in (1, 2))

    assert any((first[name] != second[name]).any() for name in first)
    assert _equal(_train(sparsity=0.0), _train(sparsity=0.0, sparsity_update_every=0))


def test_frozen_weights_keep_their_mask_and_values() -> None:
    start, trained = _start(), _train(frozen="features.*")

    mask = magnitude_mask(start, 0.2)
    assert torch.equal(
        trained["features.2.weight"], start["features.2.weight"] * mask["features.2.weight"]
    )
    assert (nonzero_mask(trained)["head.weight"] != mask["head.weight"]).any()


def test_an_average_of_weights_that_have_other_masks_is_refused() -> None:
    with pytest.raises(InputError, match=r"average: must be 'none' with sparsity_update_every"):
        check_combination(replace(HOW, average="ema"), DIGITS)

    check_combination(replace(HOW, average="ema", sparsity=0.0), DIGITS)
