"""Difficulty scores of examples, and the selection by them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.data import Subset, TensorDataset

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.data_pruning import (
    difficulty_scores,
    el2n,
    grand,
    hardest,
    pruned,
)
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.workloads.batches import TokenDataset, num_examples, subset, take
from stockpot.workloads.digits import Digits
from stockpot.workloads.protocol import Task

HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.0,
    epochs=1,
    batch_size=64,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
)
DIGITS = Digits(0, [], [])


class LinearDigits(Digits):
    """The digits, for a model of one layer."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__(0, [], [])
        self._bias = bias

    def build_model(self, generator: Generator) -> nn.Module:
        layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=self._bias))
        for parameter in layers.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        return layers


def _start(workload: Digits = DIGITS) -> dict[str, Tensor]:
    state: dict[str, Tensor] = workload.build_model(torch.Generator().manual_seed(1)).state_dict()
    return state


def test_el2n_is_the_distance_of_probabilities_from_the_target() -> None:
    outputs = torch.tensor([[0.0, math.log(3)], [100.0, 0.0], [100.0, 0.0]])

    scores = el2n(outputs, torch.tensor([0, 0, 1]))

    # p = (1/4, 3/4) with target 0: |(-3/4, 3/4)|; a sure one: right, then wrong.
    torch.testing.assert_close(scores, torch.tensor([0.75, 0.0, 1.0]) * math.sqrt(2))


def test_el2n_is_the_norm_of_the_gradient_at_the_logits() -> None:
    outputs = torch.randn(6, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.arange(6)
    DIGITS.loss(outputs, (targets,)).sum().backward()  # type: ignore[no-untyped-call]

    assert outputs.grad is not None
    torch.testing.assert_close(el2n(outputs.detach(), targets), outputs.grad.norm(dim=1))


@pytest.mark.parametrize("bias", [True, False])
def test_grand_of_a_linear_softmax_model_is_el2n_times_the_length_of_the_input(bias: bool) -> None:
    workload = LinearDigits(bias=bias)
    model = workload.build_model(torch.Generator().manual_seed(1))
    batch = take(workload.dataset("train"), torch.arange(20))

    scores = grand(workload, model, batch)

    lengths = (batch[0].flatten(1).square().sum(dim=1) + bias).sqrt()
    torch.testing.assert_close(scores, el2n(model(batch[0]).detach(), batch[1]) * lengths)


def test_grand_is_the_norm_of_each_examples_own_gradient() -> None:
    model = DIGITS.build_model(torch.Generator().manual_seed(1))
    images, targets = take(DIGITS.dataset("train"), torch.arange(12))

    def loss(weights: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        outputs: Tensor = functional_call(model, weights, (image.unsqueeze(0),))
        return DIGITS.loss(outputs, (target.unsqueeze(0),))[0]

    weights = {name: one.detach() for name, one in model.named_parameters()}
    slopes = vmap(grad(loss), in_dims=(None, 0, 0))(weights, images, targets)
    flat = torch.cat([slope.flatten(1) for slope in slopes.values()], dim=1)

    torch.testing.assert_close(grand(DIGITS, model, (images, targets)), flat.norm(dim=1))


def test_scores_are_those_of_the_given_weights_in_the_order_of_the_split() -> None:
    scores = difficulty_scores(DIGITS, _start(), HOW, split="train", device="cpu")

    model = DIGITS.build_model(torch.Generator())
    model.load_state_dict(_start())
    images, targets = DIGITS.dataset("train").tensors
    torch.testing.assert_close(scores, el2n(model(images).detach(), targets))


def test_a_wrong_label_is_among_the_hardest() -> None:
    images, targets = DIGITS.dataset("pretrain").tensors
    trained = fine_tune(DIGITS, None, replace(HOW, epochs=20), split="pretrain")
    model = DIGITS.build_model(torch.Generator())
    model.load_state_dict(trained)
    wrong = targets.clone()
    wrong[17] = (wrong[17] + 1) % 10

    scores = el2n(model(images).detach(), wrong)

    assert 17 in hardest(scores, kept=0.1, dropped=0.0)


@pytest.mark.parametrize(
    ("kept", "dropped", "expected"),
    [
        (1.0, 0.0, [0, 1, 2, 3, 4]),
        (0.4, 0.0, [1, 2]),  # of the two with 0.5, the first
        (0.4, 0.2, [2, 4]),
        (0.2, 0.8, [0]),
        (0.01, 0.0, [1]),
    ],
)
def test_the_hardest_examples_are_kept_except_those_that_are_too_hard(
    kept: float, dropped: float, expected: list[int]
) -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.2, 0.5])

    assert hardest(scores, kept, dropped).tolist() == expected


@given(
    scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40),
    kept=st.floats(0.01, 1),
)
def test_no_example_that_is_left_out_is_harder(scores: list[float], kept: float) -> None:
    chosen = hardest(torch.tensor(scores), kept, 0.0).tolist()

    left_out = [score for place, score in enumerate(scores) if place not in chosen]
    assert len(chosen) == max(1, round(kept * len(scores)))
    assert max(left_out, default=0.0) <= min(scores[place] for place in chosen)


def test_shares_above_one_in_sum_are_refused() -> None:
    with pytest.raises(InputError, match=r"kept_data: must be at most 1 - dropped_data, got 0\.8"):
        hardest(torch.zeros(10), 0.8, 0.3)
    with pytest.raises(InputError, match=r"got 1\.0 with dropped_data 0\.1"):
        fine_tune(DIGITS, _start(), replace(HOW, dropped_data=0.1), split="train")


def test_a_run_trains_on_the_kept_examples_alone() -> None:
    class Half(Digits):
        """The digits, with only the even ones in train."""

        def dataset(self, split: str) -> TensorDataset:
            return TensorDataset(*(tensor[::2] for tensor in super().dataset(split).tensors))

    scores = torch.tensor([1.0, 0.0]).repeat(350)  # the even ones are harder
    half = fine_tune(Half(0, [], []), _start(), HOW, split="train")

    kept = fine_tune(DIGITS, _start(), replace(HOW, kept_data=0.5), split="train", scores=scores)

    torch.testing.assert_close(dict(kept), dict(half), rtol=0, atol=0)


@pytest.mark.parametrize("difficulty", ["el2n", "grand"])
def test_a_run_without_scores_computes_those_of_its_start(difficulty: Any) -> None:
    how = replace(HOW, kept_data=0.1, difficulty=difficulty)
    scores = difficulty_scores(DIGITS, _start(), how, split="train", device="cpu")

    given_scores = fine_tune(DIGITS, _start(), how, split="train", scores=scores)

    own = fine_tune(DIGITS, _start(), how, split="train")
    torch.testing.assert_close(dict(own), dict(given_scores), rtol=0, atol=0)


def test_scores_of_other_data_are_refused() -> None:
    with pytest.raises(InputError, match="scores: must be one per example, got 3 for 700"):
        pruned(DIGITS.dataset("train"), torch.zeros(3), replace(HOW, kept_data=0.5))


def test_el2n_needs_classes() -> None:
    class Numbers(Digits):
        task: Task = "regression"

    with pytest.raises(InputError, match="difficulty: el2n needs a workload whose task is clas"):
        difficulty_scores(Numbers(0, [], []), None, HOW, split="train", device="cpu")


def test_a_part_of_a_dataset_is_of_its_kind() -> None:
    tokens, targets = torch.arange(12).view(4, 3), torch.arange(4)
    indices = torch.tensor([2, 0])

    plain = subset(TensorDataset(tokens, targets), indices)
    texts = subset(TokenDataset(tokens, targets, lengths=torch.tensor([3, 1, 2, 3])), indices)
    listed = subset([(row, number) for number, row in enumerate(tokens)], indices)  # type: ignore[arg-type]

    for part in (plain, texts, listed):
        assert num_examples(part) == 2
        torch.testing.assert_close(take(part, torch.arange(2)), (tokens[indices], indices))
    assert isinstance(texts, TokenDataset)
    assert texts.lengths.tolist() == [2, 3]
    assert isinstance(listed, Subset)
