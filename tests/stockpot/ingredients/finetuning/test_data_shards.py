"""Runs on shards of the data: consecutive parts, each as if there were nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from poisoned_sweep import hyperparameters, make_digits
from torch.utils.data import TensorDataset

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.data_shards import shard_rows
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.own_gradients import OwnGradients, Training
from stockpot.seeding import seeded_generator
from stockpot.workloads.digits import Digits


class FirstThird(Digits):
    """The digits, of whose training splits only the first third is left."""

    def dataset(self, split: str) -> TensorDataset:
        tensors = super().dataset(split).tensors
        count = _third(len(tensors[0])) if split == "train" else len(tensors[0])
        return TensorDataset(*(tensor[:count] for tensor in tensors))


def _third(count: int) -> int:
    return -(-count // 3)


def test_shards_are_disjoint_consecutive_and_of_equal_size() -> None:
    parts = [shard_rows(11, hyperparameters(shards=3, shard=shard)) for shard in (1, 2, 3)]

    assert [len(part) for part in parts] == [4, 4, 3]
    assert torch.equal(torch.cat(parts), torch.arange(11))


def test_more_shards_than_examples_are_refused() -> None:
    with pytest.raises(InputError, match="shards: must be at most the number of examples, 2, got"):
        shard_rows(2, hyperparameters(shards=3, shard=1))


@pytest.mark.parametrize("kept", [1.0, 0.5])
def test_a_run_on_a_shard_is_the_run_of_a_workload_with_these_examples_alone(kept: float) -> None:
    digits = make_digits()
    count = len(digits.dataset("train"))
    scores = torch.rand(count, generator=torch.Generator().manual_seed(0))
    how = hyperparameters(kept_data=kept)

    shard = fine_tune(digits, None, replace(how, shards=3, shard=1), split="train", scores=scores)

    alone = fine_tune(
        make_digits(FirstThird), None, how, split="train", scores=scores[: _third(count)]
    )
    assert all(torch.equal(shard[name], alone[name]) for name in alone)


def test_the_own_gradient_is_of_the_shard_and_not_held_by_a_mask_that_moves() -> None:
    digits = make_digits()
    weights = dict(digits.build_model(seeded_generator(0)).state_dict())
    count = len(digits.dataset("train"))
    own = OwnGradients(
        digits,
        weights,
        load=lambda _: weights,
        scores=lambda *_: torch.zeros(count),
        seed=0,
        device="cpu",
    )
    plain = hyperparameters()

    shard = own.gradient(weights, Training(replace(plain, shards=3, shard=1)))
    moving = replace(plain, sparsity=0.5, sparsity_update_every=5)

    part = slice(0, _third(count))
    assert torch.equal(shard, own.gradient(weights, Training(plain, "train", part)))
    assert torch.equal(
        own.gradient(weights, Training(moving)), own.gradient(weights, Training(plain))
    )
