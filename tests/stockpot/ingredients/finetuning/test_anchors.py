"""Anchored fine-tuning (SALSA, ZSCL, DPO): its identities, and runs that resume bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.anchor_losses import (
    distillation,
    expected_reward,
    gaussian_divergence,
    kl_divergence,
    preference_loss,
)
from stockpot.ingredients.finetuning.anchor_rules import check_anchor
from stockpot.ingredients.finetuning.anchors import Anchor
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.mixup import MixedBatch
from stockpot.ingredients.finetuning.partial_state import PartialState
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import take

HOW = Hyperparameters(
    learning_rate=0.05,
    weight_decay=0.0,
    epochs=3,
    batch_size=3,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
)
LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


class Open(Toy):
    """The toy workload with a split of reference inputs, and a net of two layers."""

    def dataset(self, split: str) -> TensorDataset:
        if split != "reference":
            return super().dataset(split)
        points = torch.randn(9, 2, generator=torch.Generator().manual_seed(9))
        return TensorDataset(points, torch.zeros(9, dtype=torch.int64))

    def build_model(self, generator: Generator) -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
        for parameter in model.parameters():
            nn.init.normal_(parameter, generator=generator)
        return model


WORKLOAD = Open(0, [], [])


def _start(seed: int = 0) -> dict[str, Tensor]:
    state = WORKLOAD.build_model(seeded_generator(seed, "weights")).state_dict()
    return {name: tensor.clone() for name, tensor in state.items()}


def _train(
    partial: PartialState | None = None,
    start: Mapping[str, Tensor] | None = None,
    held: Mapping[str, Tensor] | None = None,
    **how: float | str,
) -> dict[str, Tensor]:
    changed = replace(HOW, **how)  # type: ignore[arg-type]
    begin = _start() if start is None else start
    return fine_tune(WORKLOAD, begin, changed, split="train", partial=partial, anchor=held)


def _same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def _distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    return sum(float((first[name] - second[name]).square().sum()) for name in first)


@pytest.mark.parametrize("loss", ["kl", "distil", "l2"])
@pytest.mark.parametrize("data", ["train", "reference"])
def test_a_weight_of_0_is_plain_fine_tuning_bit_for_bit(loss: str, data: str) -> None:
    how = {"anchor": "base", "anchor_loss": loss, "anchor_data": data}

    assert _same(_train(anchor_weight=0.0, **how), _train())
    assert not _same(_train(anchor_weight=0.5, held=_start(1), **how), _train())


def test_a_divergence_is_never_negative_and_0_where_both_are_equal() -> None:
    values = kl_divergence(LOGITS, OTHERS)

    by_hand = [
        sum(p * (p / q).log() for p, q in zip(own, other, strict=True))
        for own, other in zip(LOGITS.softmax(1), OTHERS.softmax(1), strict=True)
    ]
    torch.testing.assert_close(values, torch.stack([torch.as_tensor(one) for one in by_hand]))
    assert bool((values > 0).all())
    assert kl_divergence(LOGITS, LOGITS).tolist() == [0.0] * 6
    assert gaussian_divergence(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 0.0]])) == 2.5


def test_distillation_is_the_entropy_with_no_gradient_at_the_reference() -> None:
    own = LOGITS.clone().requires_grad_()

    values = distillation(own, LOGITS, 2.0)
    values.sum().backward()

    shares = (LOGITS / 2).softmax(dim=1)
    torch.testing.assert_close(values.detach(), 4 * -(shares * shares.log()).sum(dim=1))
    assert own.grad is not None
    torch.testing.assert_close(own.grad, torch.zeros_like(own), atol=1e-6, rtol=0)
    assert bool((distillation(OTHERS, LOGITS, 2.0) > values).all())


def test_the_squared_temperature_keeps_the_size_of_gradients_of_small_logits() -> None:
    sizes = []
    for temperature in (2.0, 4.0):
        own = (0.1 * LOGITS).requires_grad_()
        distillation(own, 0.1 * OTHERS, temperature).sum().backward()
        assert own.grad is not None
        sizes.append(float(own.grad.norm()))

    assert 1 / 1.5 < sizes[0] / sizes[1] < 1.5


def test_dpo_is_log_2_at_the_reference_and_otherwise_the_sigmoid_of_the_log_ratios() -> None:
    own, other = torch.tensor([[-3.0, -5.0]]), torch.tensor([[-4.0, -4.5]])

    loss = preference_loss(own, other, torch.tensor([0]), beta=0.5)

    ratio = 0.5 * ((-3.0 + 4.0) - (-5.0 + 4.5))
    torch.testing.assert_close(loss, -functional.logsigmoid(torch.tensor([ratio])))
    equal = preference_loss(own, own, torch.tensor([1]), beta=0.5)
    torch.testing.assert_close(equal, torch.tensor([2.0]).log())


def test_a_tabular_policy_converges_to_the_closed_form() -> None:
    """SALSA's RLHF as an exact contextual bandit: the reference times exp(reward / beta)."""
    rewards = torch.rand(6, 4, generator=torch.Generator().manual_seed(2))
    beta, policy = 0.5, OTHERS.clone().requires_grad_()
    optimizer = torch.optim.Adam([policy], lr=0.05)

    for _ in range(800):
        optimizer.zero_grad()
        loss = beta * kl_divergence(policy, OTHERS) - expected_reward(policy, rewards)
        loss.sum().backward()
        optimizer.step()

    closed = (OTHERS.log_softmax(dim=1) + rewards / beta).softmax(dim=1)
    torch.testing.assert_close(policy.detach().softmax(dim=1), closed, atol=1e-3, rtol=0)


def _anchor(model: nn.Module, weights: Mapping[str, Tensor], **how: float | str) -> Anchor:
    changed = replace(HOW, anchor="base", **how)  # type: ignore[arg-type]
    return Anchor(WORKLOAD, model, weights, changed, WORKLOAD.dataset("train"), "cpu")


@pytest.mark.parametrize("augmentation", [0.0, 0.5])  # without, outputs are computed once
def test_at_its_start_a_run_is_at_the_reference_which_gets_no_gradient(augmentation: float) -> None:
    model = WORKLOAD.build_model(seeded_generator(0, "weights"))
    weights = _start()
    anchor = _anchor(model, weights, augmentation=augmentation)
    rows = torch.arange(3)
    batch = take(WORKLOAD.dataset("train"), rows)
    outputs = anchor.forward(model, batch)
    losses = WORKLOAD.loss(outputs, batch)

    anchored = anchor.anchored(outputs, losses, MixedBatch(batch, batch, 1.0, rows))
    anchored.sum().backward()

    torch.testing.assert_close(anchored, losses)
    assert _same(weights, _start())
    reference = anchor._reference
    assert reference is not None
    assert not reference.training
    assert all(one.grad is None and not one.requires_grad for one in reference.parameters())


def test_further_inputs_add_a_mean_divergence_and_no_labels() -> None:
    model = WORKLOAD.build_model(seeded_generator(0, "weights"))
    at_start = _anchor(model, _start(), anchor_data="reference").penalty(model, 0)
    anchor = _anchor(model, _start(1), anchor_data="reference", anchor_weight=2.0, batch_size=4)

    penalty = anchor.penalty(model, 5)

    draw = seeded_generator(HOW.seed, "anchor", 5)
    points = WORKLOAD.dataset("reference").tensors[0][torch.randint(9, (4,), generator=draw)]
    other = WORKLOAD.build_model(seeded_generator(1, "weights"))
    expected = 2 * kl_divergence(model(points), other(points)).mean()
    assert at_start is not None
    assert penalty is not None
    assert abs(at_start.item()) < 1e-6
    torch.testing.assert_close(penalty, expected)


class Normed(Open):
    """The workload for a net with BatchNorm."""

    def build_model(self, generator: Generator) -> nn.Module:
        net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
        nn.init.normal_(net[0].weight, generator=generator)
        return net


def test_further_inputs_leave_statistics_of_batch_norm_as_they_are() -> None:
    workload = Normed(0, [], [])
    model = workload.build_model(seeded_generator(0, "weights")).train()
    how = replace(HOW, anchor="base", anchor_data="reference")
    anchor = Anchor(workload, model, model.state_dict(), how, workload.dataset("train"), "cpu")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    anchor.penalty(model, 0)

    assert _same(model.state_dict(), before)
    assert all(module.training for module in model.modules())


def test_a_distance_of_weights_pulls_to_the_anchor_or_to_the_start() -> None:
    plain, other = _train(), _start(1)
    near_start = _train(start_l2=10.0)
    near_other = _train(anchor="soup", anchor_loss="l2", anchor_weight=10.0, held=other)

    assert _distance(near_start, _start()) < 0.1 * _distance(plain, _start())
    assert _distance(near_other, other) < _distance(plain, other)
    assert _same(near_start, _train(anchor="base", anchor_loss="l2", anchor_weight=10.0))


def test_a_soup_of_equal_models_is_that_model_as_the_reference() -> None:
    one = _start(1)
    soup = merge_states([one, one], Recipe.of(linear, (1.0, 1.0), {}))

    anchored = [_train(anchor="soup", held=weights) for weights in (soup, one)]

    assert _same(*anchored)
    assert not _same(anchored[0], _train(anchor="base"))


def test_an_average_along_the_run_is_the_uniform_soup_of_start_and_samples() -> None:
    ends = [_train(schedule="constant", warmup=0.0, epochs=epochs) for epochs in (1, 2)]
    samples = [_start(), *ends]

    averaged = _train(
        schedule="constant",
        warmup=0.0,
        epochs=2,
        average="swa",
        average_start=1,
        swa_start=0.4,  # after step 2 of 6, counted from 0, and after every third one
        average_every=3,
    )

    soup = merge_states(samples, Recipe.of(linear, (1 / 3,) * 3, {}))
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor, soup[name])


class Killed(BaseException):
    """Represents the end of the process."""


@pytest.mark.parametrize(
    "how",
    [
        {"anchor": "base", "accumulation": 2},
        {"anchor": "base", "anchor_loss": "bandit", "sampler": "gradient_norm"},
        {"anchor": "base", "anchor_loss": "l2", "sam_radius": 0.05},
        {
            "anchor": "base",
            "anchor_loss": "distil",
            "anchor_data": "reference",
            "start_l2": 0.1,
            "average": "swa",
            "swa_start": 0.0,
            "average_every": 2,
        },
    ],
    ids=lambda how: " ".join(f"{name}={value}" for name, value in how.items()),
)
@pytest.mark.parametrize("steps_done", [1, 3, 5])
def test_a_killed_run_resumes_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, float | str], steps_done: int
) -> None:
    whole, partial = _train(**how), PartialState(tmp_path / "state.safetensors", every_seconds=0)
    save = PartialState.save

    def save_and_die(state, parts, progress, *, identity):  # type: ignore[no-untyped-def]
        save(state, parts, progress, identity=identity)
        if progress.step == steps_done:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PartialState, "save", save_and_die)
        with pytest.raises(Killed):
            _train(partial, **how)

    assert _same(_train(partial, **how), whole)
    assert not _same(whole, _train())


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"anchor": "base", "anchor_loss": "l2", "adapter": "lora"}, "need adapter none"),
        ({"start_l2": 1.0, "adapter": "lora"}, "need adapter none, got 'lora'"),
        ({"anchor": "base", "anchor_loss": "dpo"}, "dpo needs a workload of preferences"),
        (
            {"anchor": "base", "anchor_loss": "bandit", "anchor_data": "pretrain"},
            "anchor_data: must be train for anchor_loss bandit, got pretrain",
        ),
        (
            {"anchor": "base", "anchor_loss": "bandit", "bag_size": 4},
            "bag_size: must be 1 for anchor_loss bandit, got 4",
        ),
    ],
)
def test_an_anchor_that_does_not_fit_is_refused(how: dict[str, float | str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        check_anchor(replace(HOW, **how), WORKLOAD)  # type: ignore[arg-type]


def test_a_soup_needs_weights() -> None:
    with pytest.raises(InputError, match="anchor: soup needs weights to stay near, got none"):
        _train(anchor="soup")
