from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.localize_and_stitch import (
    localize_and_stitch,
    localize_and_stitch_dataless,
)
from stockpot.merging.recipe import Recipe

BASE = torch.tensor([1.0, 1.0, 1.0, 1.0])
MODELS = [BASE + torch.tensor([4.0, 0.1, 3.0, 0.2]), BASE + torch.tensor([0.1, -5.0, 1.0, 0.2])]


def _mask(*entries: int) -> Tensor:
    return torch.tensor(entries, dtype=torch.bool)


def test_disjoint_masks_add_their_entries() -> None:
    masks = [_mask(1, 0, 1, 0), _mask(0, 1, 0, 0)]

    merged = localize_and_stitch(MODELS, BASE, masks, [1, 1])

    torch.testing.assert_close(merged, BASE + torch.tensor([4.0, -5.0, 3.0, 0.0]))


@pytest.mark.parametrize(("parts", "expected"), [([1.0, 1.0], 2.0), ([3.0, 1.0], 2.5)])
def test_where_masks_overlap_it_is_the_mean_of_the_task_vectors(
    parts: list[float], expected: float
) -> None:
    masks = [_mask(0, 0, 1, 0), _mask(0, 0, 1, 0)]

    merged = localize_and_stitch(MODELS, BASE, masks, parts)

    torch.testing.assert_close(merged, BASE + torch.tensor([0.0, 0.0, expected, 0.0]))


def test_tensors_that_are_not_trained_get_the_mean_of_the_task_vectors() -> None:
    merged = localize_and_stitch(MODELS, BASE, [None, None], [1, 3])

    torch.testing.assert_close(merged, linear(MODELS, [1, 3]))


def test_without_data_the_largest_entries_are_kept() -> None:
    merged = localize_and_stitch_dataless(MODELS, BASE, [1, 1], density=0.5)

    torch.testing.assert_close(merged, BASE + torch.tensor([4.0, -5.0, 2.0, 0.0]))


def test_without_data_a_single_model_of_density_one_is_returned() -> None:
    merged = localize_and_stitch_dataless(MODELS[:1], BASE, [0.3], density=1)

    torch.testing.assert_close(merged, MODELS[0])


def test_by_default_the_largest_entries_are_those_of_the_whole_model() -> None:
    base = {"a": torch.zeros(3), "b": torch.zeros(3)}
    model = {"a": torch.tensor([5.0, 4.0, 3.0]), "b": torch.tensor([0.3, 0.2, 0.1])}

    def merged(**options: object) -> dict[str, Tensor]:
        recipe = Recipe("localize_and_stitch_dataless", (1.0,), {"density": 1 / 3, **options})
        return merge_states([model], recipe, base)

    assert [t.tolist() for t in merged().values()] == [[5.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
    apart = merged(scope="tensor")
    torch.testing.assert_close(apart["b"], torch.tensor([0.3, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("options", "parts", "rule"),
    [
        ({"density": 1.5}, [1, 1], "density must be in"),
        ({"scope": "row"}, [1, 1], "scope must be one of"),
        ({}, [1, -1], "coefficients must be at least 0"),
    ],
)
def test_options_outside_their_range_are_refused(
    options: dict[str, object], parts: list[float], rule: str
) -> None:
    with pytest.raises(ValueError, match=f"localize_and_stitch_dataless: {rule}"):
        localize_and_stitch_dataless(MODELS, BASE, parts, **options)  # type: ignore[arg-type]
