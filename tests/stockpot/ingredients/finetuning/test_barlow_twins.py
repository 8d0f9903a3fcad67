"""Mixed Barlow Twins: the identities of its losses, and pretraining without labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.barlow_twins import (
    mixing_loss,
    redundancy_loss,
    standardised,
)
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.partial_state import PartialState
from stockpot.seeding import seeded_generator
from stockpot.workloads.digits import Digits
from stockpot.workloads.protocol import Batch

HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.0,
    epochs=0,
    batch_size=100,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    pretrain="barlow_twins",
    pretrain_epochs=1,
)
DIGITS = Digits(0, [], [])
STEPS = 10  # 300 images of pretrain and 700 of train, in batches of 100


def _features(seed: int, size: int = 40) -> Tensor:
    return standardised(torch.randn(size, 6, generator=Generator().manual_seed(seed)))


def _whitened() -> Tensor:
    """Return features of mean 0 and covariance 1 exactly."""
    centred = torch.randn(40, 6, generator=Generator().manual_seed(0))
    centred = centred - centred.mean(dim=0)
    return torch.linalg.svd(centred, full_matrices=False)[0] * 40**0.5


def test_the_loss_is_of_the_correlations_by_hand() -> None:
    first = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    second = first[:, [0, 0]]  # the second feature is the first one

    # C = [[1, 1], [0, 0]]: the second diagonal entry is off by 1, one entry off the diagonal is 1
    assert redundancy_loss(first, second, 0.25).item() == pytest.approx(1 + 0.25)


def test_equal_views_with_whitened_features_have_no_loss() -> None:
    features = standardised(_whitened())

    assert redundancy_loss(features, features, 0.5).item() == pytest.approx(0, abs=1e-6)


def test_the_order_of_the_batch_does_not_matter() -> None:
    first, second = _features(1), _features(2)
    order = torch.randperm(40, generator=Generator().manual_seed(3))

    permuted = redundancy_loss(first[order], second[order], 0.1)

    assert_close(permuted, redundancy_loss(first, second, 0.1))


def test_a_constant_feature_is_zero_and_gives_finite_losses_and_gradients() -> None:
    raw = torch.randn(40, 6, generator=Generator().manual_seed(1))
    raw[:, 2] = 5.0
    raw.requires_grad_()
    features = standardised(raw)

    redundancy_loss(features, features, 0.1).backward()

    assert_close(features[:, 2].detach(), torch.zeros(40), rtol=0, atol=1e-4)
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


def test_an_image_that_is_not_mixed_has_no_mixing_loss() -> None:
    views, partners = (_features(1), _features(2)), torch.arange(40).roll(1)

    assert mixing_loss(views[0], views, partners, 1.0) == 0
    assert mixing_loss(views[1][partners], views, partners, 0.0) == 0


def test_the_mixing_loss_is_of_the_mixed_correlations() -> None:
    first, second, mixed = _features(1), _features(2), _features(3)
    partners, share = torch.arange(40).roll(1), 0.3

    found = mixing_loss(mixed, (first, second), partners, share)

    ideal = share * first + (1 - share) * second[partners]  # what linear features would be
    expected = sum(((mixed - ideal).T @ view / 40).square().sum() for view in (first, second))
    assert_close(found, torch.as_tensor(expected))


def _start() -> dict[str, Tensor]:
    state: dict[str, Tensor] = DIGITS.build_model(seeded_generator(7, "weights")).state_dict()
    return state


def test_all_but_the_head_is_trained_and_labels_are_not_used() -> None:
    class Shuffled(Digits):
        """The digits with other labels."""

        def dataset(self, split: str) -> TensorDataset:
            images, labels = super().dataset(split).tensors
            return TensorDataset(images, (labels + 1) % 10)

    start = _start()

    trained = fine_tune(DIGITS, None, HOW, split="pretrain")

    other = fine_tune(Shuffled(0, [], []), None, HOW, split="pretrain")
    changed = {name for name in start if not torch.equal(start[name], trained[name])}
    assert changed == {name for name in start if not name.startswith("head")}
    assert all(torch.equal(other[name], tensor) for name, tensor in trained.items())


def test_supervised_epochs_begin_at_the_pretrained_weights() -> None:
    pretrained = fine_tune(DIGITS, None, HOW, split="pretrain")

    both = fine_tune(DIGITS, None, replace(HOW, epochs=1), split="pretrain")

    plain = replace(HOW, epochs=1, pretrain="none")
    after = fine_tune(DIGITS, pretrained, plain, split="pretrain")
    assert all(torch.equal(after[name], tensor) for name, tensor in both.items())


def test_features_learn_the_classes_without_labels() -> None:
    how = replace(HOW, pretrain_epochs=5)

    trained = fine_tune(DIGITS, None, how, split="pretrain")

    assert _probe(trained) > _probe(_start()) + 0.03


def _probe(weights: dict[str, Tensor]) -> float:
    """Return the accuracy on val of a ridge regression from features, fitted on pretrain."""
    net = DIGITS.build_model(seeded_generator(0))
    net.load_state_dict(weights)
    net.head = nn.Identity()
    with torch.no_grad():
        (fitted, labels), (images, targets) = (
            DIGITS.dataset(split).tensors for split in ("pretrain", "val")
        )
        inputs = net(fitted)
        gram = inputs.T @ inputs + 1e-2 * torch.eye(inputs.shape[1])
        solved = torch.linalg.solve(gram, inputs.T @ nn.functional.one_hot(labels, 10).float())
        return float(((net(images) @ solved).argmax(dim=1) == targets).float().mean())


class Killed(BaseException):
    """Represents the end of the process."""


@pytest.mark.parametrize("kill", [("pretraining", 4), ("pretraining", STEPS), ("training", 2)])
def test_a_killed_run_resumes_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: tuple[str, int]
) -> None:
    how = replace(HOW, epochs=1, pretrain_mix=1.0)
    whole = fine_tune(DIGITS, None, how, split="pretrain")
    save, state = PartialState.save, PartialState(tmp_path / "run.safetensors", 0.0)

    def save_and_die(self: PartialState, *parts: object, **more: object) -> None:
        save(self, *parts, **more)  # type: ignore[arg-type]
        phase = "pretraining" if "pretrain" in self.path.name else "training"
        if (phase, parts[1].step) == kill:  # type: ignore[attr-defined]
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PartialState, "save", save_and_die)
        with pytest.raises(Killed):
            fine_tune(DIGITS, None, how, split="pretrain", partial=state)
    resumed = fine_tune(DIGITS, None, how, split="pretrain", partial=state)

    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    assert [*tmp_path.iterdir()] == []


class Rows(Digits):
    """Rows of numbers in place of images."""

    def dataset(self, split: str) -> TensorDataset:
        images, labels = super().dataset(split).tensors
        return TensorDataset(images.flatten(1), labels)


class Still(Digits):
    """Images that no augmentation changes."""

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:  # noqa: ARG002
        return batch


@pytest.mark.parametrize(
    ("workload", "values", "expected"),
    [
        (Rows(0, [], []), {}, r"pretrain: inputs must be images .* got \[\(64,\)\]"),
        (Still(0, [], []), {}, "augmentation must change images, got two equal views"),
        (DIGITS, {"frozen": "features.*"}, "needs trained layers before the head, got none"),
        (DIGITS, {"batch_size": 2000}, "batch_size: must be from 2 .* got 2000 of 1000"),
    ],
)
def test_what_does_not_fit_is_refused(
    workload: Digits, values: dict[str, object], expected: str
) -> None:
    how = replace(HOW, **values)  # type: ignore[arg-type]

    with pytest.raises(InputError, match=expected):
        fine_tune(workload, None, how, split="pretrain")
