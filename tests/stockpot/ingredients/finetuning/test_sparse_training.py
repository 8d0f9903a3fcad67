"""Retrained pruned models keep their zeros, and so do soups of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.sparse_training import prune
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.merging.sparse_masks import (
    Mask,
    apply_mask,
    magnitude_mask,
    nonzero_mask,
)
from stockpot.storage.density import density_of
from stockpot.workloads.digits import Digits

HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.1,
    epochs=2,
    batch_size=100,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    schedule="linear",
)
DIGITS = Digits(0, [], [])
State = dict[str, Tensor]


def _start(seed: int = 1) -> State:
    state: State = DIGITS.build_model(torch.Generator().manual_seed(seed)).state_dict()
    return state


def _retrain(start: State, **how: float | str) -> State:
    hyperparameters = replace(HOW, **how)  # type: ignore[arg-type]
    return dict(fine_tune(DIGITS, start, hyperparameters, split="pretrain"))


def _same(first: Mask, second: Mask) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_pruning_sets_the_smallest_weights_to_zero_and_leaves_biases() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model.load_state_dict(
        {
            "0.weight": torch.tensor([[0.5, -4.0], [0.1, 0.2]]),
            "0.bias": torch.tensor([0.01, 0.0]),
            "1.weight": torch.tensor([[-0.3, 0.4]]),
            "1.bias": torch.tensor([0.02]),
        }
    )

    prune(model, 0.5)

    expected = {
        "0.weight": torch.tensor([[0.5, -4.0], [0.0, 0.0]]),
        "0.bias": torch.tensor([0.01, 0.0]),
        "1.weight": torch.tensor([[0.0, 0.4]]),
        "1.bias": torch.tensor([0.02]),
    }
    torch.testing.assert_close(dict(model.state_dict()), expected)


@pytest.mark.parametrize(
    "technique",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd", "learning_rate": 0.1},
        {"optimizer": "adamp"},
        {"average": "ema", "sam_radius": 0.05},
        {"precision": "fp16", "accumulation": 2, "clip_norm": 1.0},
    ],
    ids=str,
)
def test_zeros_stay_exactly_zero_and_the_other_weights_move(
    technique: dict[str, float | str],
) -> None:
    start = _start()
    mask = magnitude_mask(start, 0.1)

    retrained = _retrain(start, sparsity=0.9, **technique)

    assert _same(nonzero_mask(retrained), mask)
    for name, kept in mask.items():
        assert (retrained[name] != start[name])[kept].float().mean() > 0.9


def test_without_steps_it_is_one_shot_pruning() -> None:
    start = _start()

    pruned = _retrain(start, sparsity=0.7, learning_rate=0.0)

    torch.testing.assert_close(pruned, apply_mask(start, magnitude_mask(start, 0.3)))


def test_phases_of_pruning_and_retraining_end_with_a_soup_of_that_sparsity() -> None:
    """Algorithm 1 of the paper: three models per phase, each phase from the previous soup."""
    soup, masks = _start(), []
    for phase in (1, 2):
        sparsity = 1 - 0.1 ** (phase / 2)
        models = [
            _retrain(soup, sparsity=sparsity, seed=seed, weight_decay=0.1 * seed, epochs=1)
            for seed in (1, 2, 3)
        ]
        soup = merge_states(models, Recipe("linear", (1.0, 1.0, 1.0)))
        masks.append(nonzero_mask(soup))

    assert density_of(soup) == pytest.approx(0.1, abs=1e-4)
    assert not any((masks[1][name] & ~kept).any() for name, kept in masks[0].items())
    assert all(_same(nonzero_mask(model), masks[1]) for model in models)


def test_the_linear_soup_of_a_sweep_with_one_sparsity_is_sparse_too() -> None:
    models = [_retrain(_start(), sparsity=0.9, seed=seed, epochs=1) for seed in (1, 2)]

    soup = merge_states(models, Recipe("linear", (1.0, 1.0)))

    assert _same(nonzero_mask(soup), nonzero_mask(models[0]))


def test_a_sparsity_that_leaves_a_layer_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"sparsity: must fit the model's weights, got 0\.99999"):
        _retrain(_start(), sparsity=0.99999)


def test_a_model_without_matrices_has_nothing_to_prune() -> None:
    with pytest.raises(InputError, match="sparsity: must fit the model's weights"):
        prune(nn.BatchNorm1d(3), 0.5)


def test_an_adapter_is_refused_with_sparsity() -> None:
    with pytest.raises(InputError, match=r"sparsity: must be 0\.0 with adapter"):
        _retrain(_start(), sparsity=0.5, adapter="lora")
