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
from stockpot.merging.sparse import check_equal_masks
from stockpot.merging.sparse_masks import (
    Mask,
    apply_mask,
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
        masks.append(magnitude_mask(state, 0.1 ** (phase / 3)))
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

    mean = merge_states(_retrained(mask), Recipe("linear", (1.0, 1.0, 1.0)))

    assert all(torch.equal(nonzero_mask(mean)[name], kept) for name, kept in mask.items())


def test_other_masks_are_refused_by_the_names_of_their_models() -> None:
    first, other = (apply_mask(_state(n), magnitude_mask(_state(n), 0.5)) for n in (1, 2))
    differ = sum(
        int((nonzero_mask(first)[name] != kept).sum()) for name, kept in nonzero_mask(other).items()
    )

    check_equal_masks({"a": first, "b": first})
    with pytest.raises(InputError, match=rf"got c and a: {100 * differ / 107:.1f}% of weights are"):
        check_equal_masks({"a": first, "b": first, "c": other})
