from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.merging.sparse import average_sparse
from stockpot.merging.sparse_masks import (
    Mask,
    apply_mask,
    density_after,
    magnitude_mask,
    nonzero_mask,
    prunable_names,
)

State = dict[str, Tensor]


def _state(seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(4, 2, 3, 3, generator=generator),  # 72
        "conv.bias": torch.randn(4, generator=generator),
        "norm.weight": torch.rand(4, generator=generator),
        "norm.num_batches_tracked": torch.tensor(3),
        "head.weight": 0.1 * torch.randn(5, 7, generator=generator),  # 35
    }


def _num_kept(mask: Mask) -> int:
    return sum(int(kept.sum()) for kept in mask.values())


def _retrained(mask: Mask, num_models: int = 3) -> list[State]:
    """Draw models as sparse as the mask."""
    return [apply_mask(_state(seed + 1), mask) for seed in range(num_models)]


def test_weights_of_two_axes_are_pruned_and_nothing_else() -> None:
    assert prunable_names(_state()) == ["conv.weight", "head.weight"]


@given(sparsity=st.floats(0, 0.999), num_phases=st.integers(1, 30))
def test_phases_of_one_fraction_reach_the_sparsity(sparsity: float, num_phases: int) -> None:
    first = density_after(1, sparsity, num_phases)

    assert first**num_phases == pytest.approx(1 - sparsity)
    assert density_after(num_phases, sparsity, num_phases) == pytest.approx(1 - sparsity)
    assert density_after(0, sparsity, num_phases) == 1


@pytest.mark.parametrize(
    ("phase", "sparsity", "num_phases", "expected"),
    [
        (1, 1.0, 3, "density_after: sparsity must be in [0, 1), got 1.0"),
        (1, -0.1, 3, "density_after: sparsity must be in [0, 1), got -0.1"),
        (1, 0.5, 0, "density_after: num_phases must be at least 1, got 0"),
        (4, 0.5, 3, "density_after: phase must be from 0 to 3, got 4"),
    ],
)
def test_phases_out_of_range_are_refused(
    phase: int, sparsity: float, num_phases: int, expected: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared whole)
        density_after(phase, sparsity, num_phases)

    assert str(caught.value) == expected


@given(density=st.floats(0.05, 1))
def test_the_density_is_met_to_half_a_weight(density: float) -> None:
    assert abs(_num_kept(magnitude_mask(_state(), density)) - density * 107) <= 0.5


def test_what_is_kept_is_larger_than_what_is_cut_but_for_one_weight_of_each_tensor() -> None:
    state = _state()

    mask = magnitude_mask(state, 0.4)

    kept = torch.cat([state[name][mask[name]].abs().sort().values[:-1] for name in mask])
    cut = torch.cat([state[name][~mask[name]].abs() for name in mask])
    assert kept.min() > cut.max()


def test_of_equal_magnitudes_the_first_ones_are_kept() -> None:
    state = {"a.weight": torch.tensor([[1.0, -1.0, 1.0]]), "b.weight": torch.tensor([[1.0, -1.0]])}

    mask = magnitude_mask(state, 0.6)

    assert mask["a.weight"].tolist() == [[True, True, False]]
    assert mask["b.weight"].tolist() == [[True, False]]


def test_no_layer_is_cut_whole() -> None:
    state = {"large.weight": torch.full((2, 4), 5.0), "small.weight": torch.tensor([[0.1, 0.2]])}

    kept = magnitude_mask(state, 0.5)

    assert kept["small.weight"].tolist() == [[False, True]]
    assert _num_kept(kept) == 5


def test_phase_after_phase_nothing_comes_back_and_the_sparsity_is_met() -> None:
    masks: list[Mask] = []
    state = _state()

    for phase in range(1, 4):
        masks.append(magnitude_mask(state, density_after(phase, 0.9, 3)))
        state = apply_mask(_state(phase), masks[-1])  # retrained to other values

    assert _num_kept(masks[-1]) == round(0.1 * 107)
    for wider, narrower in pairwise(masks):
        assert all(bool((wider[name] | ~narrower[name]).all()) for name in wider)


@pytest.mark.parametrize(
    ("density", "expected"),
    [
        (1.5, "from 2 to 107 entries, got 1.5, which keeps 160"),
        (0.0, "from 2 to 107 entries, got 0.0, which keeps 0"),
    ],
)
def test_a_density_that_cannot_be_is_refused(density: float, expected: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared whole)
        magnitude_mask(_state(), density)

    assert str(caught.value) == f"magnitude_mask: density must keep {expected}"


def test_a_mask_of_ones_changes_nothing_and_masking_twice_is_masking_once() -> None:
    state = _state()
    mask = magnitude_mask(state, 0.3)

    whole, once = apply_mask(state, magnitude_mask(state, 1.0)), apply_mask(state, mask)

    assert all(torch.equal(whole[name], tensor) for name, tensor in state.items())
    assert all(torch.equal(apply_mask(once, mask)[name], t) for name, t in once.items())
    assert all(torch.equal(nonzero_mask(once)[name], kept) for name, kept in mask.items())
    assert torch.equal(once["conv.bias"], state["conv.bias"])


def test_an_average_of_one_mask_is_as_sparse_as_its_models() -> None:
    mask = magnitude_mask(_state(), 0.1)
    states = _retrained(mask)

    soup = average_sparse(states, (1.0, 1.0, 1.0))

    mean = merge_states(states, Recipe("linear", (1.0, 1.0, 1.0)))
    assert all(torch.equal(soup.weights[name], tensor) for name, tensor in mean.items())
    assert all(torch.equal(soup.mask[name], kept) for name, kept in mask.items())
    assert _num_kept(nonzero_mask(soup.weights)) == round(0.1 * 107)
    assert soup.density == round(0.1 * 107) / 107


def test_dense_models_give_the_plain_average() -> None:
    soup = average_sparse([_state(0), _state(1)], (1.0, 1.0))

    assert soup.density == 1.0
    mean = merge_states([_state(0), _state(1)], Recipe("linear", (1.0, 1.0)))
    assert all(torch.equal(soup.weights[name], tensor) for name, tensor in mean.items())


def test_other_masks_are_refused_or_united() -> None:
    first = apply_mask(_state(1), magnitude_mask(_state(1), 0.5))
    other = apply_mask(_state(2), magnitude_mask(_state(2), 0.5))

    with pytest.raises(InputError) as caught:
        average_sparse([first, other], (1.0, 1.0))
    soup = average_sparse([first, other], (1.0, 1.0), allow_union=True)

    differ = int((nonzero_mask(first)["conv.weight"] != nonzero_mask(other)["conv.weight"]).sum())
    assert str(caught.value) == (
        "tensor 'conv.weight' of model 1: is 0 in other places than model 0's "
        f"({differ} differ); average models of one mask, or allow a union"
    )
    union = {n: nonzero_mask(first)[n] | nonzero_mask(other)[n] for n in nonzero_mask(first)}
    assert soup.density == _num_kept(union) / 107 > 0.5


def test_models_of_other_shapes_are_refused_by_the_engine() -> None:
    wide = _state() | {"head.weight": torch.ones(5, 8)}

    with pytest.raises(InputError, match=r"tensor 'head.weight' of model 1: has shape \(5, 8\)"):
        average_sparse([_state(), wide], (1.0, 1.0))
