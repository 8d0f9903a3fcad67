"""Candidates from the stack: the bits of the soup that is saved, without copies of the models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging import flat_tensors
from stockpot.merging.engine import merge_files, merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.stack import IngredientStack
from stockpot.storage.checkpoints import load_tensors, save_checkpoint

State = dict[str, Tensor]


def _state(seed: int) -> State:
    """A state dict with every kind of tensor; `wide` takes several blocks of several threads."""
    drawn = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=drawn)

    return {
        "wide": draw(3, 50_001),
        "embedding": draw(40, 7),
        "scalar": draw(),
        "empty": torch.empty(0, 3),
        "double": draw(5).double(),
        "half": draw(70_000).half(),
        "bfloat": draw(11).bfloat16(),
        "columns": draw(6, 4).t(),
        "bn.running_mean": draw(4),
        "bn.running_var": draw(4).abs(),
        "bn.num_batches_tracked": torch.tensor(seed),
    }


def _linear(coefficients: Sequence[float]) -> Recipe:
    return Recipe.of(linear, tuple(coefficients))


def _equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) and tensor.dtype == second[name].dtype
        for name, tensor in first.items()
    )


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_tensors, "_THREADED", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("reuse", [False, True])
def test_all_dtypes_have_the_bits_of_the_engine(reuse: bool) -> None:
    states = [_state(seed) for seed in range(4)]
    stack = IngredientStack(states)
    for coefficients in ([0.3, -0.2, 0.0, 1.7], [1.0, 1.0, 1.0, 1.0], [0.0, 0.7, 0.0, 0.0]):
        used = [place for place, value in enumerate(coefficients) if value]
        expected = merge_states(
            [states[place] for place in used], _linear([coefficients[place] for place in used])
        )
        assert _equal(stack.merge(coefficients, reuse=reuse), expected)
    # As greedy asks: added, refused, added, and another order.
    for members in ([2], [2, 0], [2, 1], [2, 1, 3], [2, 1, 0], [2, 1, 3, 0], [0, 1, 2, 3]):
        expected = merge_states([states[place] for place in members], _linear([1.0] * len(members)))
        assert _equal(stack.mean_of(members, reuse=reuse), expected)


def test_mapped_files_are_read_where_they_are(tmp_path: Path) -> None:
    states = [_state(seed) for seed in range(3)]
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    for path, state in zip(paths, states, strict=True):
        save_checkpoint(path, state, {})
    mapped = [load_tensors(path) for path in paths]

    stack = IngredientStack(mapped)

    assert _equal(stack.mean_of([2, 0, 1]), merge_files([paths[2], *paths[:2]], _linear([1.0] * 3)))
    (large,) = [flat for flat in stack._flat if "wide" in flat.names]
    assert large._pieces[1].rows[0].data_ptr() == mapped[0]["wide"].data_ptr()


def test_results_with_reuse_share_their_memory_and_no_others_do() -> None:
    stack = IngredientStack([_state(seed) for seed in range(3)])
    first = stack.mean_of([0, 1], reuse=True)
    own = stack.mean_of([0, 1])
    copy = {name: tensor.clone() for name, tensor in own.items()}

    second = stack.merge([0.5, 0.1, 0.4], reuse=True)

    assert first["wide"].data_ptr() == second["wide"].data_ptr()
    assert torch.equal(first["wide"], second["wide"])
    assert _equal(own, copy)


def test_tied_tensors_stay_tied() -> None:
    tied = [{"embed": tensor, "head": tensor} for tensor in (torch.ones(2, 3), torch.zeros(2, 3))]

    mean = IngredientStack(tied).mean_of([0, 1])

    assert mean["head"] is mean["embed"]
    assert torch.equal(mean["head"], torch.full((2, 3), 0.5))


def test_dtypes_that_differ_between_models_are_merged_as_by_the_engine() -> None:
    states = [{"w": torch.randn(5)}, {"w": torch.randn(5).double()}, {"w": torch.randn(5).half()}]

    mean = IngredientStack(states).mean_of([1, 0, 2])

    assert _equal(mean, merge_states([states[1], states[0], states[2]], _linear([1.0] * 3)))


def test_what_cannot_be_merged_is_refused_before_any_candidate() -> None:
    good, bad = {"w": torch.ones(2)}, {"w": torch.tensor([1.0, torch.nan])}

    with pytest.raises(InputError, match="tensor 'w' of model 1: has a value that is not finite"):
        IngredientStack([good, bad])
    with pytest.raises(InputError, match=r"model 1: tensors \['v'\]"):
        IngredientStack([good, good | {"v": torch.ones(1)}])
    with pytest.raises(InputError, match="tensor 'w' of model 1: has shape"):
        IngredientStack([good, {"w": torch.ones(3)}])
