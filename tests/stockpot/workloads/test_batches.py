"""Batches of texts hold like lengths; data sets without lengths are passed as they always were."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from stockpot.workloads.batches import (
    TokenDataset,
    batches_by_length,
    in_order,
    shuffled_batches,
    take,
    to_device,
)

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=300)


def texts(lengths: list[int]) -> TokenDataset:
    """Make texts whose tokens are 1."""
    of_each = torch.tensor(lengths)
    mask = (torch.arange(max(lengths)) < of_each[:, None]).long()
    return TokenDataset(mask, mask, torch.arange(len(lengths)), lengths=of_each)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def padding(dataset: TokenDataset, batches: tuple[torch.Tensor, ...]) -> int:
    """Count the tokens of padding in batches that are cut to their longest text."""
    lengths = [dataset.lengths[batch] for batch in batches]
    return sum(int((each.max() - each).sum()) for each in lengths)


@given(LENGTHS, st.integers(1, 8), st.integers(0, 3))
def test_an_epoch_has_each_text_once_in_as_many_batches_as_without_lengths(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    batches = shuffled_batches(texts(lengths), batch_size, seeded(seed))

    assert torch.cat(batches).sort().values.tolist() == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert max(len(batch) for batch in batches) <= batch_size


def test_an_epoch_pads_little_and_differs_from_the_next() -> None:
    lengths = torch.randint(1, 100, (800,), generator=seeded(0)).tolist()
    dataset = texts(lengths)
    unsorted = torch.split(torch.randperm(800, generator=seeded(1)), 16)

    first = shuffled_batches(dataset, 16, seeded(1))
    second = shuffled_batches(dataset, 16, seeded(2))

    assert padding(dataset, first) < 0.05 * padding(dataset, unsorted)
    assert {tuple(batch.tolist()) for batch in first}.isdisjoint(
        tuple(batch.tolist()) for batch in second
    )
    mean_lengths = [float(dataset.lengths[batch].double().mean()) for batch in first]
    assert mean_lengths != sorted(mean_lengths)  # short texts do not come first


@pytest.mark.parametrize("num_examples", [1, 7, 16, 33])
def test_examples_of_one_length_are_shuffled_by_one_permutation(num_examples: int) -> None:
    dataset = TensorDataset(torch.arange(num_examples))

    batches = shuffled_batches(dataset, 16, seeded(3))

    permutation = torch.randperm(num_examples, generator=seeded(3))
    assert [b.tolist() for b in batches] == [b.tolist() for b in torch.split(permutation, 16)]


@given(LENGTHS, st.integers(1, 8))
def test_what_is_computed_by_length_comes_back_in_order(
    lengths: list[int], batch_size: int
) -> None:
    dataset = texts(lengths)

    batches = batches_by_length(dataset, torch.arange(len(lengths)), batch_size)

    computed = torch.cat([take(dataset, batch)[-1] for batch in batches])
    assert torch.equal(in_order(computed, batches), torch.arange(len(lengths)))
    longest = [int(dataset.lengths[batch].max()) for batch in batches]
    assert longest == sorted(longest)
    assert max(len(batch) for batch in batches) <= batch_size


def test_batches_of_long_texts_are_small() -> None:
    dataset = texts([5000, 1, 4096, 4096, 10_000])

    batches = batches_by_length(dataset, torch.arange(5), 1024, "cuda")

    assert [batch.tolist() for batch in batches] == [[1, 2], [3], [0], [4]]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=99))
def test_on_a_cpu_padding_takes_less_time_than_a_batch_more(lengths: list[int]) -> None:
    dataset = texts(lengths)

    batches = batches_by_length(dataset, torch.arange(len(lengths)), 1024, "cpu")

    padding = [int((own.max() - own).sum()) for own in (dataset.lengths[b] for b in batches)]
    assert max(padding) <= 32
    assert max(len(batch) * int(dataset.lengths[batch].max()) for batch in batches) <= 1024


def test_on_a_cpu_few_batches_have_texts_of_nearly_equal_lengths() -> None:
    dataset = texts([6, 7, 8, 9] * 8)

    batches = batches_by_length(dataset, torch.arange(32), 1024, "cpu")

    assert [len(batch) for batch in batches] == [24, 8]  # with padding of 8 * 2 + 8 * 1 tokens


def test_examples_of_one_length_stay_in_their_order() -> None:
    dataset, chosen = TensorDataset(torch.arange(5)), torch.tensor([3, 1, 4])

    batches = batches_by_length(dataset, chosen, 2)

    assert [batch.tolist() for batch in batches] == [[3, 1], [4]]


def test_texts_keep_their_lengths_on_a_device() -> None:
    moved = to_device(texts([3, 1]), "cpu")

    assert isinstance(moved, TokenDataset)
    assert moved.lengths.tolist() == [3, 1]
