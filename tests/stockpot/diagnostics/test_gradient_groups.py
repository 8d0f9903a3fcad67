from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from made_context import initial_state, make_context
from poisoned_sweep import (
    NextDigits,
    State,
    hyperparameters,
    make_digits,
    quick_sweep,
)
from torch import Tensor, nn

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.gradient_groups import (
    Objective,
    describe,
    gradient_cosines,
    gradient_groups,
)
from stockpot.diagnostics.minimum_cuts import split_into_groups
from stockpot.diagnostics.similarity import cluster
from stockpot.diagnostics.states import mean_state
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.objective import training_losses
from stockpot.merging.methods.inner_products import cosines_of, task_vector_gram
from stockpot.workloads.digits import Digits
from stockpot.workloads.passes import empty_model, put_weights

CONVENTIONS = (Digits, Digits, NextDigits, Digits, NextDigits, NextDigits)
PARTITION = [[0, 1, 3], [2, 4, 5]]


def _objectives(kind: type[Digits], seed: int) -> list[Objective]:
    """Return the loss on batches of train, in the ingredient's own order."""
    digits = make_digits(kind)
    images, labels = digits.dataset("train").tensors
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:128]
    batches = [(images[part], labels[part]) for part in order.split(64)]

    def loss(batch: tuple[Tensor, ...], net: nn.Module) -> Tensor:
        return training_losses(digits, net, batch, hyperparameters(seed=seed), 0).mean()

    return [partial(loss, batch) for batch in batches]


@pytest.mark.parametrize("seed", range(5))
def test_two_label_conventions_are_told_apart_by_gradients_and_by_task_vectors(seed: int) -> None:
    base = quick_sweep().base
    tuned = [
        fine_tune(make_digits(kind), base, hyperparameters(seed=6 * seed + place), split="train")
        for place, kind in enumerate(CONVENTIONS)
    ]
    net = empty_model(make_digits(), "cpu")
    put_weights(net, mean_state(tuned))

    cosines = gradient_cosines(
        net, [_objectives(kind, 6 * seed + place) for place, kind in enumerate(CONVENTIONS)]
    )
    by_vectors = cluster(cosines_of(task_vector_gram(tuned, base)).numpy())["labels"]

    assert split_into_groups(cosines) == PARTITION
    assert by_vectors == [0, 0, 1, 0, 1, 1]
    np.testing.assert_array_equal(cosines, cosines.T)
    assert np.diag(cosines).tolist() == [1.0] * 6
    assert np.abs(cosines).max() <= 1


def test_gradients_of_a_case_computed_by_hand() -> None:
    net = nn.Linear(2, 1, bias=False)

    def along(x: float, y: float) -> list[Objective]:
        return [lambda n: (n.weight * torch.tensor([[x, y]])).sum()]

    cosines = gradient_cosines(net, [along(1, 0), along(0, 3), along(-2, -2), along(0, 0)])

    half = 0.5**0.5
    expected = [[1, 0, -half, 0], [0, 1, -half, 0], [-half, -half, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(cosines, expected, atol=1e-6)


def _trained(context: DiagnosticContext, *strengths: float) -> DiagnosticContext:
    """Say of each ingredient that it was trained with some augmentation."""
    trained = []
    for one, strength in zip(context.ingredients, strengths, strict=True):
        with_ = asdict(hyperparameters(augmentation=strength, mixup=strength, seed=3))
        details = MappingProxyType({"hyperparameters": with_})
        trained.append(replace(one, model=replace(one.model, details=details)))
    return replace(context, ingredients=tuple(trained))


def test_ingredients_of_one_objective_belong_in_one_soup(tmp_path: Path) -> None:
    sweep = quick_sweep()
    context = _trained(make_context(tmp_path, sweep.base, sweep.good[:3]), 0.0, 0.0, 0.5)

    finding = gradient_groups(context)

    assert "They belong in one soup" in finding.sentence
    assert finding.metrics["num_groups"] == 1
    assert finding.data["cosines"][0][1] == 1  # the same examples, and nothing drawn
    assert -1 <= finding.data["cosines"][0][2] < 0.99  # augmented and mixed
    assert finding.data["groups"][0]["metric"] == finding.data["all"]["metric"]


def test_the_sentence_for_groups_that_oppose_each_other_says_what_a_split_is_worth() -> None:
    def told(best: float) -> str:
        groups = [
            {"ingredients": ["a", "b"], "metric": best, "loss": 0.1},
            {"ingredients": ["c"], "metric": 0.5, "loss": 0.9},
        ]
        cut = {"mean": -0.3, "part": ["c"]}
        return describe(
            {"ingredients": ["a", "b", "c"], "groups": groups, "cut": cut, "all": {"metric": 0.8}}
        )

    assert "2 groups (of 2, 1)" in told(0.9)
    assert told(0.9).endswith(
        "+10.0 points relative to the soup of all: make a soup of each group."
    )
    assert "there is no need to split" in told(0.7)


def test_one_ingredient_or_an_unknown_training_is_said_in_words(tmp_path: Path) -> None:
    state: State = initial_state(make_digits())

    alone = gradient_groups(make_context(tmp_path / "one", state, [state]))
    unknown = gradient_groups(make_context(tmp_path / "two", state, [state, state]))

    assert alone.sentence.startswith("There is only one ingredient")
    assert "some ingredients are unknown" in unknown.sentence
