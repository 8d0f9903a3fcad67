"""Overlap of masks: counted by hand, expected of independent ones, and drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_context import initial_state, make_context
from poisoned_sweep import State, make_digits
from torch import Tensor

from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.mask_overlap import mask_overlap, overlap, total_of
from stockpot.merging.sparse_masks import prunable_names
from stockpot.reporting.plots.mask_overlap import mask_overlap as draw


def _mask(*entries: int) -> Tensor:
    return torch.tensor(entries, dtype=torch.bool)


def _context(root: Path, states: list[State]) -> DiagnosticContext:
    """Return a context of these ingredients, with their densities in the records."""
    context = make_context(root, initial_state(make_digits()), states)

    def recorded(one: LoadedModel) -> LoadedModel:
        names = prunable_names(one.weights)
        live = torch.cat([one.weights[name].flatten() != 0 for name in names])
        density = float(live.double().mean())
        return LoadedModel(root, replace(one.model, details={"density": density}))

    return replace(context, ingredients=tuple(recorded(one) for one in context.ingredients))


def _pruned(density: float, seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    state = initial_state(make_digits())
    for name in prunable_names(state):
        state[name] *= torch.rand(state[name].shape, generator=generator) < density
    return state


def test_a_case_counted_by_hand() -> None:
    first = overlap([_mask(1, 1, 0, 0), _mask(0, 1, 1, 0)])
    second = overlap([_mask(1, 1), _mask(1, 0)])
    total = total_of([first, second])

    assert first.shared.tolist() == [[2, 1], [1, 2]]
    assert first.jaccard[0, 1] == pytest.approx(1 / 3)
    assert first.expected_jaccard[0, 1] == pytest.approx(1 / 3)  # 1 of 2 + 2 - 1
    assert first.union == (3, 4 * (1 - 0.5 * 0.5))
    assert total.jaccard[0, 1] == pytest.approx(2 / 5)
    assert (total.size, total.common, total.union[0]) == (6, 2, 5)


def test_empty_masks_are_equal_and_a_mask_is_itself() -> None:
    empty = overlap([_mask(0, 0), _mask(0, 0), _mask(1, 0)])

    assert empty.jaccard.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert empty.expected_jaccard.diagonal().tolist() == [1, 1, 1]


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5])
def test_independent_masks_overlap_as_expected(density: float) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = [torch.rand(200_000, generator=generator) < density for _ in range(3)]

    found = overlap(masks)

    assert found.jaccard[0, 1] == pytest.approx(density / (2 - density), rel=0.05)
    assert np.allclose(found.jaccard, found.expected_jaccard, rtol=0.05)
    assert found.union[0] / found.size == pytest.approx(1 - (1 - density) ** 3, rel=0.02)
    assert found.union[0] == pytest.approx(found.union[1], rel=0.01)


def test_masks_apart_are_described_and_drawn(tmp_path: Path) -> None:
    finding = mask_overlap(_context(tmp_path, [_pruned(0.2, seed) for seed in range(3)]))

    assert finding.metrics["mean_jaccard"] == pytest.approx(1 / 9, abs=0.01)
    assert finding.metrics["union_density"] == pytest.approx(1 - 0.8**3, abs=0.01)
    assert [layer["name"] for layer in finding.data["layers"]] == prunable_names(_pruned(0.2, 0))
    assert "overlap with a mean Jaccard index of 0.11" in finding.sentence
    assert "<svg" in (draw(finding.data) or "")
    json.dumps(finding.to_json(), allow_nan=False)


def test_one_mask_and_no_mask_are_said(tmp_path: Path) -> None:
    pruned, dense = _pruned(0.2, 0), initial_state(make_digits())
    moved = {name: 2 * tensor for name, tensor in pruned.items()}

    equal = mask_overlap(_context(tmp_path / "equal", [pruned, dense, moved]))
    none = mask_overlap(_context(tmp_path / "none", [dense, dense]))
    one = mask_overlap(_context(tmp_path / "one", [dense, pruned]))

    assert "have one mask" in equal.sentence
    assert "Not pruned: ingredient-01" in equal.sentence
    assert equal.metrics["lowest_jaccard"] == 1
    assert "<svg" in (draw(equal.data) or "")
    assert (none.data, one.data) == ({}, {})
    assert none.sentence.startswith("No ingredient is pruned")
    assert one.sentence.startswith("Only one ingredient is pruned")
