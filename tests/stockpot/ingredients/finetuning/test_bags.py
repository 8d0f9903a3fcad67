"""Losses of aggregate responses: their decomposition, special cases, and a closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.bags import Bags
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.mixup import MixedBatch
from stockpot.seeding import seeded_generator
from stockpot.workloads.digits import Digits
from stockpot.workloads.protocol import Batch

HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.0,
    epochs=2,
    batch_size=24,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    bag_size=4,
)
DIGITS = Digits(0, [], [])


class Squares(Digits):
    """A regression with the squared error."""

    task = "regression"

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:  # noqa: ARG002
        return (outputs - batch[-1]).square().view(len(outputs), -1).mean(dim=1)


SQUARES = Squares(0, [], [])


def _how(**values: object) -> Hyperparameters:
    return replace(HOW, **values)  # type: ignore[arg-type]


def _batch(bags: Bags, targets: Tensor) -> tuple[Tensor, MixedBatch]:
    """Return the rows of the first batch, and that batch."""
    rows = bags.batches(seeded_generator(0))[0]
    batch = (torch.zeros(len(rows)), targets[rows])
    return rows, MixedBatch(batch, batch, 1.0, rows)


def _numbers(*sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=Generator().manual_seed(3))


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(24,), (24, 1), (24, 2)])
def test_the_squared_error_is_that_of_bags_plus_rho_times_the_variance_within(
    rho: float, shape: tuple[int, ...]
) -> None:
    bags = Bags(24, _how(rho=rho))
    outputs = _numbers(*shape)
    _, mixed = _batch(bags, 2 * _numbers(*shape).flip(0))

    losses = bags.losses(SQUARES, outputs, mixed)

    predicted, targets = outputs.view(6, 4, -1), mixed.first[-1].view(6, 4, -1)
    of_bags = (predicted.mean(dim=1) - targets.mean(dim=1)).square().mean()
    within = predicted.var(dim=1, correction=0).mean()
    assert_close(losses.mean(), of_bags + rho * within)


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_the_cross_entropies_are_of_shares_of_labels(rho: float) -> None:
    bags = Bags(24, _how(rho=rho))
    logits, labels = _numbers(24, 5), torch.arange(24) % 5
    _, mixed = _batch(bags, labels)

    losses = bags.losses(DIGITS, logits, mixed)

    shares = nn.functional.one_hot(mixed.first[-1], 5).float().view(6, 4, 5).mean(dim=1)
    mean = logits.softmax(dim=1).view(6, 4, 5).mean(dim=1)
    of_bags = -(shares * mean.log()).sum(dim=1).mean()
    instance = cross_entropy(logits, shares.repeat_interleave(4, dim=0))
    assert_close(losses.mean(), (1 - rho) * of_bags + rho * instance)
    assert of_bags <= instance  # Jensen


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_bags_of_one_example_have_the_plain_loss(rho: float) -> None:
    logits, numbers = _numbers(24, 5), _numbers(24, 1)
    bags = Bags(24, _how(bag_size=1, rho=rho))

    rows, labelled = _batch(bags, torch.arange(24) % 5)
    _, measured = _batch(bags, numbers)

    assert_close(
        bags.losses(DIGITS, logits, labelled), cross_entropy(logits, rows % 5, reduction="none")
    )
    expected = (numbers - numbers[rows]).square().flatten()
    assert_close(bags.losses(SQUARES, numbers, measured), expected)


def test_where_all_labels_of_a_bag_are_equal_the_instance_loss_is_the_plain_one() -> None:
    bags = Bags(24, _how(rho=1.0))
    logits = _numbers(24, 5)
    labels = torch.empty(24, dtype=torch.long)
    rows = bags.batches(seeded_generator(0))[0]
    labels[rows] = torch.arange(6).repeat_interleave(4) % 5

    _, mixed = _batch(bags, labels)

    expected = cross_entropy(logits, labels[rows], reduction="none")
    assert_close(bags.losses(DIGITS, logits, mixed), expected)


def test_bags_are_a_partition_drawn_by_the_seed_and_batches_hold_whole_ones() -> None:
    bags, again, other = (Bags(50, _how(seed=seed)) for seed in (1, 1, 2))

    epochs = [bags.batches(seeded_generator(epoch)) for epoch in (0, 1)]

    assert [len(rows) for rows in again.batches(seeded_generator(0))] == [
        len(rows) for rows in epochs[0]
    ]
    assert sum(map(len, epochs[0])) == 50
    assert len(epochs[0]) == 3  # of 24 examples, as without bags
    found = [{frozenset(b.tolist()) for r in e for b in _bags_in(r)} for e in epochs]
    assert found[0] == found[1]
    assert sorted(row for bag in found[0] for row in bag) == [*range(50)]
    assert sorted(map(len, found[0])) == [2] + 12 * [4]
    first, different = (one.batches(seeded_generator(0))[0] for one in (bags, other))
    assert not torch.equal(first, different)


def _bags_in(rows: Tensor) -> list[Tensor]:
    """Split a batch into its bags, of which one may have 2 members."""
    bags = Bags(50, _how(seed=1))
    number = bags._bag_of[rows]  # the only way to tell where a smaller one is
    _, counts = torch.unique_consecutive(number, return_counts=True)
    return [*torch.split(rows, counts.tolist())]


def test_a_smaller_bag_has_the_mean_of_its_own_members() -> None:
    bags = Bags(6, _how(batch_size=8, rho=0.0))
    numbers = _numbers(6, 1)
    rows, mixed = _batch(bags, torch.zeros(6, 1))
    sizes = torch.unique_consecutive(bags._bag_of[rows], return_counts=True)[1].tolist()

    losses = bags.losses(SQUARES, numbers, mixed)

    parts = torch.split(numbers.flatten(), sizes)
    expected = torch.cat([part.mean().square().expand(len(part)) for part in parts])
    assert sorted(sizes) == [2, 4]
    assert_close(losses, expected)


def test_a_linear_model_of_bag_losses_is_the_least_squares_fit_of_bag_means() -> None:
    bags = Bags(48, _how(batch_size=48, rho=0.0))
    inputs = _numbers(48, 3).double()
    targets = inputs @ torch.tensor([1.0, -2.0, 0.5]).double() + _numbers(48).double()
    rows, mixed = _batch(bags, targets.unsqueeze(1))
    weight = torch.zeros(3, 1, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, tolerance_grad=1e-12, tolerance_change=0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = bags.losses(SQUARES, inputs[rows] @ weight, mixed).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]

    means = inputs[rows].view(12, 4, 3).mean(dim=1)
    expected = torch.linalg.lstsq(means, targets[rows].view(12, 4).mean(dim=1, keepdim=True))
    assert_close(weight.detach(), expected.solution, rtol=0, atol=1e-6)


def _val_accuracy(weights: dict[str, Tensor]) -> float:
    net = DIGITS.build_model(seeded_generator(0))
    net.load_state_dict(weights)
    images, labels = DIGITS.dataset("val").tensors
    return float((net(images).argmax(dim=1) == labels).float().mean())


def test_fewer_known_targets_make_a_worse_model() -> None:
    start = DIGITS.build_model(seeded_generator(0)).state_dict()
    accuracies = {
        size: [
            _val_accuracy(fine_tune(DIGITS, start, _how(bag_size=size, seed=seed), split="train"))
            for seed in range(2)
        ]
        for size in (1, 8)
    }

    assert sum(accuracies[8]) < sum(accuracies[1])
    assert min(accuracies[8]) > 0.3  # chance is 0.1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"bag_size": 5}, "batch_size: must be a multiple of bag_size, 5, .* got 24"),
        ({"bag_size": 400, "batch_size": 400}, "at most the number of examples, 300, got 400"),
        ({"mixup": 0.2}, "mixup: must be 0.0 with bag_size, .* got 0.2"),
        ({"sampler": "gradient_norm"}, "sampler: must be 'shuffle' with bag_size"),
        ({"kept_data": 0.5}, "kept_data: must be 1.0 with bag_size"),
        ({"accumulation": 2}, "accumulation: must be 1 with bag_size"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        fine_tune(DIGITS, None, _how(**values), split="pretrain")


def test_preferences_have_no_mean_target() -> None:
    class Pairs(Digits):
        compares_responses = True

    with pytest.raises(InputError, match=r"bag_size: needs .* averaged, got Pairs, whose targets"):
        fine_tune(Pairs(0, [], []), None, HOW, split="pretrain")


def test_texts_to_continue_have_no_mean_target() -> None:
    class Texts(Digits):
        task = "language_model"

    with pytest.raises(InputError, match=r"bag_size: needs .* got 'language_model'"):
        fine_tune(Texts(0, [], []), None, HOW, split="pretrain")
