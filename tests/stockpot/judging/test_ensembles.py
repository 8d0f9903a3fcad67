from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stockpot.judging.ensembles import (
    ENSEMBLES,
    fit_ensembles,
    fit_stack,
    mean_outputs,
    mean_probabilities,
    mean_token_probabilities,
    median_outputs,
    median_probabilities,
)
from stockpot.scoring.metrics.classification import nll_per_example

TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])


def _logits(seed: int, models: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(2 * torch.randn(models, 6, 3, generator=generator))


def test_means_by_hand() -> None:
    outputs = [torch.tensor([[0.0, math.log(3)]]), torch.tensor([[math.log(3), 0.0]])]

    logits, shares = mean_outputs(outputs), mean_probabilities(outputs).exp()

    assert logits.tolist() == [pytest.approx([math.log(3) / 2] * 2)]
    assert shares.tolist() == [pytest.approx([0.5, 0.5])]


def test_the_median_leaves_one_bad_model_out() -> None:
    good, bad = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[-50.0, 0.0, 90.0]])

    median = median_probabilities([good, good, bad])

    torch.testing.assert_close(median, good.double().log_softmax(dim=1))
    assert mean_outputs([good, good, bad]).argmax().item() == 2


def test_the_median_of_values_averages_the_middle_two() -> None:
    outputs = [torch.tensor([value]) for value in (1.0, 100.0, 2.0, 4.0)]

    assert median_outputs(outputs).tolist() == [3.0]


@given(seed=st.integers(0, 100), models=st.integers(1, 6))
def test_outputs_of_probability_ensembles_are_log_probabilities(seed: int, models: int) -> None:
    outputs = _logits(seed, models)

    for name, combine in fit_ensembles("classification", outputs, TARGETS, "per_class").items():
        if name != "logit ensemble":
            sums = combine(outputs).exp().sum(dim=1)
            torch.testing.assert_close(sums, torch.ones(6).double())


@pytest.mark.parametrize("granularity", ["coarse", "per_class"])
@pytest.mark.parametrize("models", [1, 4])
def test_an_ensemble_of_copies_is_the_model(granularity: str, models: int) -> None:
    outputs = _logits(0, 1) * models
    alone = outputs[0].double().softmax(dim=1)

    ensembles = fit_ensembles("classification", outputs, TARGETS, granularity)  # type: ignore[arg-type]  # one of two

    assert list(ensembles) == [
        "logit ensemble",
        "probability ensemble",
        "median ensemble",
        "stacked ensemble",
    ]
    for combine in ensembles.values():
        torch.testing.assert_close(combine(outputs).softmax(dim=1), alone)


@given(seed=st.integers(0, 100))
def test_the_order_of_models_does_not_matter(seed: int) -> None:
    outputs = _logits(seed)
    turned = [*outputs[1:], outputs[0]]

    for combine in (mean_outputs, mean_probabilities, median_probabilities):
        torch.testing.assert_close(combine(turned), combine(outputs))


@given(seed=st.integers(0, 100))
def test_the_stack_fits_val_better_than_any_model_and_their_mean(seed: int) -> None:
    outputs = _logits(seed)

    stacked = fit_stack(outputs, TARGETS, "coarse")(outputs)

    losses = [nll_per_example(o, TARGETS).mean() for o in (*outputs, mean_probabilities(outputs))]
    assert nll_per_example(stacked, TARGETS).mean() <= min(losses) + 1e-4


def test_a_stack_keeps_its_weights_on_another_set() -> None:
    outputs, other = _logits(0), _logits(1)
    right = [o + 20 * torch.nn.functional.one_hot(TARGETS, 3) for o in outputs[:1]]

    stack = fit_stack([*right, *outputs[1:]], TARGETS, "coarse")

    torch.testing.assert_close(
        stack(other).exp(), other[0].double().softmax(dim=1), rtol=0, atol=1e-4
    )


def test_tokens_are_mixed_by_their_probabilities() -> None:
    losses = [torch.tensor([[math.log(2), 0.1]]), torch.tensor([[math.log(4), 2000.0]])]

    mixed = mean_token_probabilities(losses)

    assert mixed.tolist() == [pytest.approx([-math.log((1 / 2 + 1 / 4) / 2), 0.1 + math.log(2)])]


def test_only_classifiers_are_stacked() -> None:
    outputs = [torch.zeros(6, 1), torch.ones(6, 1)]

    for task in ("regression", "language_model"):
        ensembles = fit_ensembles(task, outputs, torch.zeros(6, 1), "coarse")  # type: ignore[arg-type]  # a task
        assert ensembles.keys() == ENSEMBLES[task].keys()  # type: ignore[index]  # a task
