"""Shards: a division of all examples, by label or at random."""

from __future__ import annotations

import pytest
import torch
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.ingredients.shards import class_counts, labels_of, split_into_shards

LABELS = torch.arange(1000) % 10


def _most_common_share(shards: list[torch.Tensor]) -> float:
    shares = [LABELS[shard].bincount().max().item() / len(shard) for shard in shards]
    return sum(shares) / len(shares)


@pytest.mark.parametrize("concentration", [0.001, 0.5, 1e6])
@pytest.mark.parametrize("num_shards", [1, 7, 300])
def test_every_example_is_in_one_shard_and_no_shard_is_empty(
    concentration: float, num_shards: int
) -> None:
    shards = split_into_shards(LABELS, 1000, num_shards, concentration, 0)

    assert torch.equal(torch.cat(shards).sort().values, torch.arange(1000))
    assert min(len(shard) for shard in shards) > 0


def test_a_small_concentration_gives_a_shard_few_classes_a_large_one_all() -> None:
    unequal, medium, equal = (split_into_shards(LABELS, 1000, 5, a, 0) for a in (0.05, 1, 1e6))

    assert _most_common_share(unequal) > _most_common_share(medium) > _most_common_share(equal)
    assert _most_common_share(equal) < 0.12
    assert {len(shard) for shard in equal} == {200}


def test_without_labels_shards_have_equal_sizes() -> None:
    shards = split_into_shards(None, 10, 3, 0.5, 0)

    assert sorted(len(shard) for shard in shards) == [3, 3, 4]
    assert torch.equal(torch.cat(shards).sort().values, torch.arange(10))


def test_the_seed_alone_decides() -> None:
    first, same, other = (split_into_shards(LABELS, 1000, 4, 0.5, seed) for seed in (1, 1, 2))

    assert all(torch.equal(one, two) for one, two in zip(first, same, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_more_shards_than_examples_are_refused() -> None:
    with pytest.raises(InputError, match=r"clients must be at most .* \(3\), got 4"):
        split_into_shards(None, 3, 4, 0.5, 0)


def test_a_workload_has_labels_if_it_has_classes() -> None:
    workload = Toy(0, (), ())

    labels = labels_of(workload, "train")
    workload.task = "regression"

    assert labels is not None
    assert torch.equal(labels, workload.dataset("train").tensors[-1])
    assert labels_of(workload, "train") is None


def test_classes_are_counted_per_shard() -> None:
    shards = [torch.tensor([0, 1, 10]), torch.tensor([2])]

    assert class_counts(LABELS, shards) == [{"0": 2, "1": 1}, {"2": 1}]
    assert class_counts(None, shards) == []
