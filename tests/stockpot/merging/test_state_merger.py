"""Merges of many candidates in memory: the bits of a merge of files, and nothing measured twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import StateMerger, merge_files
from stockpot.merging.methods import ties
from stockpot.merging.recipe import Recipe
from stockpot.merging.registry import METHODS
from stockpot.merging.runs import Runs
from stockpot.storage.checkpoints import save_checkpoint

State = dict[str, Tensor]

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ties": [{"density": 0.5}, {"density": 0.5, "scale": 2.0}, {"scope": "model"}],
    "dare_linear": [{"density": 0.5, "rescale": "l1"}, {"density": 0.5, "rescale": "none"}],
    "breadcrumbs": [{"density": 0.6, "gamma": 0.1}, {"density": 0.6, "gamma": 0.2}],
    "della": [{}, {"rescale": "l1"}, {"density": 0.7}],
    "model_stock": [{"filter_wise": True}, {}],
    "nearswap": [{"t": 0.1}],
    "slerp": [{"t": 0.2}, {"t": 0.7}],
}


def _state(seed: int) -> State:
    drawn = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(30, 7, generator=drawn),
        "b": torch.randn(9, generator=drawn),
        "half": torch.randn(20, generator=drawn).half(),
        "bn.running_mean": torch.randn(3, generator=drawn),
        "bn.running_var": torch.rand(3, generator=drawn),
        "bn.num_batches_tracked": torch.tensor(seed),
    }


def _merges_without_data() -> list[str]:
    return [
        name
        for name in METHODS
        if METHODS[name].is_elementwise and METHODS[name].side_information is None
    ]


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockpot.merging.runs.MOST_ENTRIES", 64)


@pytest.mark.parametrize("method", _merges_without_data())
def test_candidates_have_the_bits_of_the_files(tmp_path: Path, method: str) -> None:
    base, *states = (_state(seed) for seed in range(5))
    paths = [tmp_path / f"{place}" for place in range(5)]
    for path, state in zip(paths, [base, *states], strict=True):
        save_checkpoint(path, state, {})
    merger = StateMerger(states, base)  # which some methods do not take
    least, largest = METHODS[method].num_models
    for options in OPTIONS.get(method, [{}, {}]):
        for members in ([2], [2, 0], [2, 1, 3]):
            if least <= len(members) <= (largest or len(members)):
                ids = tuple(f"model {member}" for member in members)
                shares = tuple(1 / (2 + member) for member in members)
                recipe = Recipe(method, shares, options, 7, ids)
                chosen = [paths[1 + member] for member in members]
                expected = merge_files(chosen, recipe, paths[0])

                merged = merger.merge(recipe, members)

                assert merged.keys() == expected.keys()
                for name, tensor in merged.items():
                    assert torch.equal(tensor, expected[name]), (name, members, options)
                    assert tensor.dtype == expected[name].dtype


def test_a_model_is_trimmed_once_per_density(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    find_cuts = ties.find_cuts

    def counted(runs: Runs, counts: Any) -> Any:
        measured.append(runs.num_models)
        return find_cuts(runs, counts)

    monkeypatch.setattr(ties, "find_cuts", counted)
    base, *states = ({"a": torch.randn(50)} for _ in range(4))
    merger = StateMerger(states, base)

    for members in ([0], [0, 1], [0, 2], [0, 2, 1]):
        merger.merge(Recipe("ties", (1.0,) * len(members), {"density": 0.5}), members)
    merger.merge(Recipe("ties", (0.3, 0.7), {"density": 0.5, "scale": 3.0}), [1, 2])
    assert measured == [1, 1, 1]

    merger.merge(Recipe("ties", (0.3, 0.7), {"density": (0.5, 0.1)}), [1, 2])
    assert measured == [1, 1, 1, 1]  # of model 2 alone


def test_a_value_that_is_not_finite_is_found_in_whatever_candidate_has_it() -> None:
    merger = StateMerger([{"a": torch.ones(3)}, {"a": torch.tensor([1.0, torch.inf, 0])}])
    merger.merge(Recipe("linear", (1.0,)), [0])

    for _ in range(2):
        with pytest.raises(InputError, match="tensor 'a' of model 1: has a value that is not"):
            merger.merge(Recipe("linear", (1.0, 1.0)), [0, 1])
