"""Files, state dicts and the stack in memory: three ways to one soup, equal bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.merging.engine import merge_files, merge_states
from stockpot.merging.recipe import Recipe
from stockpot.merging.stack import IngredientStack
from stockpot.storage.checkpoints import save_checkpoint

State = dict[str, Tensor]


def _linear(coefficients: Sequence[float]) -> Recipe:
    return Recipe("linear", tuple(coefficients))


def _batch_norm_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 5, kernel_size=3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(45, 7)
    )


def _states(num_models: int, *, dtype: torch.dtype = torch.float32) -> list[State]:
    """Draw models with odd sizes, BatchNorm statistics, a 0-d weight and integer buffers."""
    generator = torch.Generator().manual_seed(3)
    names = _batch_norm_net().state_dict()
    states = []
    for position in range(num_models):
        drawn = {
            name: torch.rand(tensor.shape, generator=generator).to(dtype)
            for name, tensor in names.items()
            if tensor.is_floating_point()
        }
        states.append(
            drawn
            | {
                "1.num_batches_tracked": torch.tensor(10 + position),
                "mask": torch.tensor([True, False]),
                "scale": torch.rand((), generator=generator).to(dtype),
                "embedding": torch.randn(13, 17, generator=generator).to(dtype),
                "half": torch.randn(9, generator=generator).bfloat16(),
            }
        )
    return states


def _save(folder: Path, states: Sequence[State]) -> list[Path]:
    paths = [folder / f"{position}.safetensors" for position in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        save_checkpoint(path, state, {})
    return paths


def _equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) and tensor.dtype == second[name].dtype
        for name, tensor in first.items()
    )


COEFFICIENTS = [[1.0], [1.0, 1.0], [1.0] * 5, [0.2, 0.3, 0.5], [1 / 3, 0.1, 0.7, 1e-3, 2.0]]


@pytest.mark.parametrize("coefficients", COEFFICIENTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_files_states_and_stack_give_the_same_bits(
    tmp_path: Path, coefficients: list[float], dtype: torch.dtype
) -> None:
    states = _states(len(coefficients), dtype=dtype)

    from_states = merge_states(states, _linear(coefficients))
    from_files = merge_files(_save(tmp_path, states), _linear(coefficients))
    from_stack = IngredientStack(states).merge(coefficients)

    assert _equal(from_states, from_files)
    assert _equal(from_states, from_stack)


@pytest.mark.parametrize("members", [[0], [4], [1, 3], [4, 2, 0, 3], [2, 1, 0, 4, 3]], ids=str)
def test_the_stacks_mean_has_the_bits_of_the_soup_that_is_written(
    tmp_path: Path, members: list[int]
) -> None:
    states = _states(5)
    paths = _save(tmp_path, states)
    stack = IngredientStack(states)

    mean = stack.mean_of(members)

    written = merge_files([paths[member] for member in members], _linear([1.0] * len(members)))
    assert _equal(mean, written)


def test_the_stacks_mean_does_not_depend_on_what_was_asked_before() -> None:
    stack = IngredientStack(_states(5))
    fresh = IngredientStack(_states(5))
    for before in ([0, 1], [0, 2], [0, 2, 1], [3], [0, 2, 4]):
        stack.mean_of(before)

    assert _equal(stack.mean_of([0, 2, 3]), fresh.mean_of([0, 2, 3]))
    assert _equal(stack.mean_of([0, 3]), fresh.mean_of([0, 3]))


def test_a_model_with_coefficient_zero_is_left_out_of_the_stack() -> None:
    states = _states(3)

    merged = IngredientStack(states).merge([0.25, 0.75, 0.0])

    assert _equal(merged, merge_states(states[:2], _linear([0.25, 0.75])))
    assert merged["1.num_batches_tracked"] == 11


def test_the_stack_has_no_place_for_models_that_differ() -> None:
    first, second = _states(2)

    with pytest.raises(InputError, match="tensor 'mask': integer buffers"):
        IngredientStack([first, second | {"mask": torch.tensor([True, True])}])


def test_a_candidate_of_the_stack_stays_as_it_is_when_the_next_is_made() -> None:
    stack = IngredientStack(_states(3))
    candidate = stack.mean_of([0, 1])
    copy = {name: tensor.clone() for name, tensor in candidate.items()}

    stack.mean_of([0, 2])
    stack.mean_of([0, 1, 2])
    stack.merge([1.0, 1.0, 1.0])

    assert _equal(candidate, copy)


def test_inputs_stay_as_they_are() -> None:
    states = _states(3)
    copies = _states(3)
    stack = IngredientStack(states)

    for merged in (
        merge_states(states, _linear([1.0, 1.0, 1.0])),
        merge_states(states[:1], _linear([1.0])),
        stack.merge([1.0, 2.0, 3.0]),
        stack.mean_of([0]),
        stack.mean_of([0, 1, 2]),
    ):
        for tensor in merged.values():
            tensor.zero_()

    assert all(_equal(state, copy) for state, copy in zip(states, copies, strict=True))
    fresh = IngredientStack(copies)
    assert all(_equal(stack.mean_of([member]), fresh.mean_of([member])) for member in range(3))


def test_one_model_gives_itself_bit_for_bit(tmp_path: Path) -> None:
    [state] = _states(1)

    assert _equal(merge_files(_save(tmp_path, [state]), _linear([0.7])), state)


def test_batch_norm_statistics_of_a_soup_are_the_pooled_ones() -> None:
    states = [
        {"bn.running_mean": torch.tensor([0.0]), "bn.running_var": torch.tensor([1.0])},
        {"bn.running_mean": torch.tensor([4.0]), "bn.running_var": torch.tensor([3.0])},
    ]

    merged = merge_states(states, _linear([3.0, 1.0]))

    assert merged == {
        "bn.running_mean": torch.tensor([1.0]),
        "bn.running_var": torch.tensor([4.5]),
    }


def test_a_soup_can_be_loaded_into_the_model() -> None:
    net = _batch_norm_net()
    states = [_batch_norm_net().state_dict() for _ in range(3)]

    net.load_state_dict(merge_states(states, _linear([1.0, 1.0, 1.0])))

    assert net.eval()(torch.rand(2, 1, 5, 5)).shape == (2, 7)


@pytest.mark.parametrize("missing", [0, 1])
def test_models_with_other_tensors_are_refused(tmp_path: Path, missing: int) -> None:
    states = _states(2)
    del states[missing]["scale"]

    message = r"model 1: tensors \['scale'\] are not in both it and model 0; merge models of one"
    with pytest.raises(InputError, match=message):
        merge_files(_save(tmp_path, states), _linear([1.0, 1.0]))


def test_a_file_with_another_shape_is_refused_and_the_tensor_named(tmp_path: Path) -> None:
    first, second = _states(2)
    paths = _save(tmp_path, [first, second | {"embedding": torch.ones(13, 18)}])

    with pytest.raises(InputError, match="tensor 'embedding' of model 1: has shape"):
        merge_files(paths, _linear([1.0, 1.0]))


def test_a_tied_head_is_merged_once_and_stays_tied() -> None:
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randn(40, 30, generator=generator) for _ in range(3)]
    base, *states = [
        {"embed.weight": tensor, "head.weight": tensor, "first_row": tensor[0]} for tensor in drawn
    ]
    recipe = Recipe("dare_linear", (1.0, 0.5))  # which draws by the tensor's name

    merged = merge_states(states, recipe, base)

    assert merged["head.weight"] is merged["embed.weight"]
    assert not torch.equal(merged["first_row"], merged["embed.weight"][0])
    untied = [state | {"head.weight": state["head.weight"].clone()} for state in states]
    one_tied = [states[0], untied[1]]
    for others in (untied, one_tied):
        apart = merge_states(others, recipe, base)
        assert torch.equal(apart["embed.weight"], merged["embed.weight"])
        assert not torch.equal(apart["head.weight"], merged["embed.weight"])
