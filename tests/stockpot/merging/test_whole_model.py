"""Methods whose scope is the model: TIES as in the paper, and slerp with one angle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from stockpot.disk_merging.merge_files.exceptions import Exceptions
from stockpot.disk_merging.planning.plan import plan_merge
from stockpot.disk_merging.streaming import stream
from stockpot.disk_merging.streaming.stream import Output, merge_to_disk
from stockpot.errors import InputError
from stockpot.merging import runs
from stockpot.merging.engine import merge_files, merge_states
from stockpot.merging.methods.slerp import slerp
from stockpot.merging.methods.ties import ties
from stockpot.merging.recipe import Recipe
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.output import ShardedOutput

State = dict[str, Tensor]


def _ties(density: float, *coefficients: float) -> Recipe:
    return Recipe("ties", coefficients or (1.0,), {"density": density, "scope": "model"})


def _zeros(*states: State) -> State:
    return {name: torch.zeros_like(tensor) for name, tensor in states[0].items()}


def test_ties_of_a_case_computed_by_hand() -> None:
    first = {"a": torch.tensor([4.0, 1.0]), "b": torch.tensor([3.0, 0.5, -5.0])}
    second = {"a": torch.tensor([0.1, 0.2]), "b": torch.tensor([9.0, 8.0, 7.0])}

    merged = merge_states([first, second], _ties(0.6, 1.0, 1.0), _zeros(first))

    # Kept of the first: 4, 3, -5; of the second, nothing in a: 9, 8, 7. At the end signs differ.
    assert merged["a"].tolist() == [4.0, 0.0]
    assert merged["b"].tolist() == [6.0, 8.0, 7.0]


def test_of_equal_entries_over_all_tensors_the_first_are_kept() -> None:
    state = {"a": torch.ones(3), "b": torch.ones(2, 2), "c": torch.ones(3)}

    merged = merge_states([state], _ties(0.5), _zeros(state))

    assert [tensor.flatten().tolist() for tensor in merged.values()] == [
        [1.0, 1.0, 1.0],
        [1.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
    ]


@st.composite
def models(draw: Any) -> tuple[list[State], list[float]]:
    """Draw models of one shape, two or three, with a positive coefficient each."""
    shapes = draw(st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4))
    num_models = draw(st.integers(2, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    states = [
        {str(n): torch.randn(shape, generator=generator) for n, shape in enumerate(shapes)}
        for _ in range(num_models)
    ]
    return states, draw(st.lists(st.floats(0.1, 3), min_size=num_models, max_size=num_models))


def _flat(state: State) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in state.values()])


@given(case=models(), density=st.floats(0.05, 1))
@settings(max_examples=40, deadline=None)
def test_ties_is_that_of_all_weights_as_one_vector(
    case: tuple[list[State], list[float]], density: float
) -> None:
    states, coefficients = case
    base = _zeros(*states)

    merged = merge_states(states, _ties(density, *coefficients), base)

    flat = [_flat(state) for state in states]
    expected = ties(flat, _flat(base), coefficients, density=density) if len(flat[0]) else flat[0]
    assert torch.equal(_flat(merged), expected)


@given(case=models(), t=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_slerp_is_that_of_all_weights_as_one_vector(
    case: tuple[list[State], list[float]], t: float
) -> None:
    states = case[0][:2]

    merged = merge_states(states, Recipe("slerp", (1.0, 1.0), {"t": t, "scope": "model"}))

    expected = slerp([_flat(state) for state in states], t=t)
    torch.testing.assert_close(_flat(merged), expected)


def test_buffers_are_no_weights() -> None:
    state = {
        "n.running_mean": torch.full((4,), 9.0),
        "n.running_var": torch.full((4,), 9.0),
        "n.num_batches_tracked": torch.tensor(9),
        "w": torch.tensor([1.0, 2.0, 3.0, 4.0]),
    }

    merged = merge_states([state], _ties(0.5), _zeros(state))

    assert merged["w"].tolist() == [0.0, 0.0, 3.0, 4.0]
    assert merged["n.running_mean"].tolist() == [9.0] * 4


def test_a_tied_head_counts_once() -> None:
    embedding = torch.tensor([4.0, 3.0])
    state = {"embed": embedding, "head": embedding, "w": torch.tensor([1.0, 2.0])}
    base_embedding = torch.zeros(2)
    base = {"embed": base_embedding, "head": base_embedding, "w": torch.zeros(2)}

    merged = merge_states([state], _ties(0.75), base)

    assert merged["w"].tolist() == [0.0, 2.0]


def _drawn(seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (13, 5), "b": (7,), "nothing": (0, 3), "c": (2, 3, 4), "d": ()}
    return {n: torch.randn(shape, generator=generator) for n, shape in shapes.items()}


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize(
    "recipe", [_ties(0.3, 0.5, 0.7), Recipe("slerp", (1, 1), {"t": 0.3, "scope": "model"})]
)
def test_files_are_merged_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_threads: int, recipe: Recipe
) -> None:
    monkeypatch.setattr(runs, "MOST_ENTRIES", 8)
    monkeypatch.setattr(stream, "_PIECE", 16)
    states = {name: _drawn(seed) for seed, name in enumerate(("base", "first", "second"))}
    for name, state in states.items():
        save_file(state, tmp_path / f"{name}.safetensors")
    paths = [tmp_path / f"{name}.safetensors" for name in ("first", "second")]
    base = tmp_path / "base.safetensors" if recipe.method == "ties" else None

    sources = [open_source(path) for path in paths]
    plans = plan_merge(sources, open_source(base) if base else None, lambda _name: recipe)
    output = ShardedOutput(tmp_path / "out.safetensors", {p.name: p.type for p in plans}, {}, 10**9)
    merge_to_disk(
        [Output(plans, output, "key")], num_threads=num_threads, on_bytes=lambda _bytes: None
    )

    on_disk = load_file(tmp_path / "out.safetensors")
    in_memory = merge_states(
        [states["first"], states["second"]], recipe, states["base"] if base else None
    )
    of_files = merge_files(paths, recipe, base)
    assert all(torch.equal(on_disk[name], tensor) for name, tensor in in_memory.items())
    assert all(torch.equal(of_files[name], tensor) for name, tensor in in_memory.items())


def test_options_that_differ_between_tensors_are_refused() -> None:
    state = {"a": torch.ones(2), "b": torch.ones(2)}

    with pytest.raises(InputError, match="tensor 'b': scope 'model' needs the same options for"):
        merge_states([state], lambda name: _ties(0.5 if name == "a" else 0.4), _zeros(state))


def test_tensors_that_not_all_models_have_are_refused_before_anything_is_read(
    tmp_path: Path,
) -> None:
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "first.safetensors")
    save_file({"a": torch.ones(2)}, tmp_path / "second.safetensors")
    sources = [open_source(tmp_path / f"{name}.safetensors") for name in ("first", "second")]
    base = open_source(tmp_path / "first.safetensors")

    with pytest.raises(InputError, match="tensor 'b': scope 'model' needs tensors that all models"):
        plan_merge(
            sources, base, lambda _name: _ties(0.5, 1.0, 1.0), exceptions=Exceptions(missing="skip")
        )


@pytest.mark.parametrize("method", ["ties", "slerp"])
def test_an_unknown_scope_is_refused(method: str) -> None:
    options = {"scope": "layer"} | ({"t": 0.5} if method == "slerp" else {})

    with pytest.raises(InputError, match=f"{method}: scope must be one of .*, got 'layer'"):
        Recipe(method, (1.0, 1.0), options).check(has_base=True)
