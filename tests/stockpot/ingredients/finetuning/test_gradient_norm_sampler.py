"""Probabilities of draws, coefficients of losses, and stored norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.data_pruning import el2n
from stockpot.ingredients.finetuning.gradient_norm_sampler import GradientNormSampler, probabilities
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.mixup import MixedBatch
from stockpot.seeding import seeded_generator
from stockpot.workloads.digits import Digits
from stockpot.workloads.protocol import Task

HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.0,
    epochs=4,
    batch_size=64,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    sampler="gradient_norm",
)
DIGITS = Digits(0, [], [])
NORMS = st.lists(st.floats(0, 1.4), min_size=1, max_size=20)


def _shown(
    sampler: GradientNormSampler, rows: Sequence[int], outputs: Tensor, targets: Sequence[int]
) -> Tensor:
    """Pass a batch to a sampler; return the coefficients of its examples."""
    batch = (torch.tensor(targets),)
    mixed = MixedBatch(batch, batch, 1.0, torch.tensor(rows))
    return sampler.weighted(torch.ones(len(rows)), outputs, mixed)


def _seen(how: Hyperparameters = HOW) -> tuple[GradientNormSampler, Tensor]:
    """Return a sampler after a first epoch of 50 examples, and their norms."""
    outputs = 3 * torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    sampler, targets = GradientNormSampler(DIGITS, 50, how, "cpu"), [row % 10 for row in range(50)]
    assert sampler.draw(0, torch.Generator()) is None
    assert _shown(sampler, range(50), outputs, targets).tolist() == [1.0] * 50
    return sampler, el2n(outputs, torch.tensor(targets))


@given(norms=NORMS, mix=st.floats(0, 1))
def test_probabilities_are_a_mixture_of_norms_and_uniform(norms: list[float], mix: float) -> None:
    p = probabilities(torch.tensor(norms, dtype=torch.float64), mix)

    total, count = sum(norms), len(norms)
    expected = [mix * g / total + (1 - mix) / count if total else 1 / count for g in norms]
    torch.testing.assert_close(p, torch.tensor(expected, dtype=torch.float64))


@given(norms=NORMS, mix=st.floats(0, 0.99))
def test_every_example_can_be_drawn_while_some_draws_are_uniform(
    norms: list[float], mix: float
) -> None:
    assert bool((probabilities(torch.tensor(norms), mix) > 0).all())


@given(norms=st.lists(st.floats(0.01, 1.4), min_size=1, max_size=20))
def test_draws_by_norm_minimise_the_second_moment_of_the_gradient(norms: list[float]) -> None:
    lengths = torch.tensor(norms, dtype=torch.float64)
    p = probabilities(lengths, 1.0)

    moment = (p * (lengths / (len(p) * p)).square()).sum()

    torch.testing.assert_close(moment, lengths.mean().square())
    assert moment <= lengths.square().mean() + 1e-12


@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
def test_the_expectation_of_the_weighted_gradient_is_the_full_one(mix: float) -> None:
    sampler, norms = _seen(replace(HOW, sampler_mix=mix))
    epoch = 3  # of 4: without a mix of its own it is 3/4
    gradients = torch.randn(50, 6, generator=torch.Generator().manual_seed(1)).double()

    sampler.draw(epoch, torch.Generator())
    counts = _shown(sampler, range(50), torch.zeros(50, 10), [0] * 50).double()

    p = probabilities(norms, mix or 3 / 4)
    expected = (p * counts) @ gradients
    torch.testing.assert_close(expected, gradients.mean(dim=0), rtol=1e-6, atol=1e-7)


def test_the_biased_sampler_draws_the_same_and_does_not_weight() -> None:
    (fair, _), (biased, _) = _seen(), _seen(replace(HOW, sampler="gradient_norm_biased"))

    drawn = [one.draw(2, seeded_generator(5, "draws")) for one in (fair, biased)]

    assert drawn[0] is not None
    torch.testing.assert_close(drawn[0], drawn[1])
    assert _shown(biased, [0, 1], torch.zeros(2, 10), [0, 1]).tolist() == [1.0, 1.0]


def test_frequencies_of_draws_match_their_probabilities() -> None:
    sampler, norms = _seen(replace(HOW, sampler_mix=0.8))

    drawn = [sampler.draw(1, seeded_generator(number, "draws")) for number in range(400)]

    rows = torch.cat([row for row in drawn if row is not None])
    frequency = rows.bincount(minlength=50) / len(rows)  # of 20 000 draws
    torch.testing.assert_close(frequency, probabilities(norms, 0.8).float(), atol=0.004, rtol=0)


def test_an_example_that_is_not_drawn_keeps_its_norm() -> None:
    sampler, norms = _seen()
    sampler.draw(1, torch.Generator().manual_seed(0))

    sure = torch.full((1, 10), -50.0)
    sure[0, 3] = 50.0
    _shown(sampler, [7], sure, [3])

    kept = sampler.state_dict()["norms"]
    assert kept[7] == 0
    assert torch.equal(kept[torch.arange(50) != 7], norms[torch.arange(50) != 7])


def test_an_example_twice_in_a_batch_has_the_larger_norm() -> None:
    sampler, _ = _seen()
    outputs = torch.zeros(3, 10)
    outputs[1, 0] = 9.0

    _shown(sampler, [4, 4, 5], outputs, [0, 0, 0])

    assert sampler.state_dict()["norms"][4] == el2n(outputs[:1], torch.tensor([0]))[0]


def test_an_epoch_is_drawn_from_the_norms_at_its_start() -> None:
    sampler, _ = _seen()
    first = sampler.draw(2, seeded_generator(1, "draws"))
    _shown(sampler, [0, 1, 2], 9 * torch.eye(3, 10), [5, 5, 5])

    resumed = GradientNormSampler(DIGITS, 50, HOW, "cpu")
    resumed.load_state_dict({name: tensor.clone() for name, tensor in sampler.state_dict().items()})

    torch.testing.assert_close(resumed.draw(2, seeded_generator(1, "draws")), first)
    torch.testing.assert_close(resumed.state_dict(), sampler.state_dict(), rtol=0, atol=0)
    later = [one.draw(3, seeded_generator(1, "draws")) for one in (sampler, resumed)]
    torch.testing.assert_close(later[0], later[1])


@pytest.mark.parametrize("sampler", ["gradient_norm", "gradient_norm_biased"])
def test_the_first_epoch_is_shuffled(sampler: str) -> None:
    plain = replace(HOW, epochs=1, sampler="shuffle")
    drawn = replace(HOW, epochs=1, sampler=sampler)  # type: ignore[arg-type]

    runs = [dict(fine_tune(DIGITS, None, how, split="pretrain")) for how in (plain, drawn)]

    torch.testing.assert_close(*runs, rtol=0, atol=0)


def test_norms_need_classes() -> None:
    class Numbers(Digits):
        task: Task = "regression"

    with pytest.raises(InputError, match="sampler: gradient_norm needs a workload whose task is"):
        fine_tune(Numbers(0, [], []), None, HOW, split="pretrain")
