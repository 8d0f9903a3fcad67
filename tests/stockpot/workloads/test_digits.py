"""The digits workload: splits, shifts, augmentation and the net."""

import pytest
import torch
import toy_workload
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.workloads import build_workload, shift_names
from stockpot.workloads.batches import num_examples, take
from stockpot.workloads.images.corruptions import CORRUPTIONS

SPLITS = {"pretrain": 300, "train": 700, "val": 400, "test": 397}


def build(seed=0, val_shifts=("blur",), test_shifts=("noise",)):
    return build_workload("digits", seed=seed, val_shifts=val_shifts, test_shifts=test_shifts)


def all_of(dataset):
    return take(dataset, torch.arange(num_examples(dataset)))


def test_splits_together_are_the_whole_data_set_once():
    from sklearn.datasets import load_digits

    images = torch.cat([all_of(build().dataset(split))[0] for split in SPLITS])
    whole = torch.tensor(load_digits().images / 16, dtype=torch.float32)

    def rows(pixels):
        return sorted(map(tuple, pixels.reshape(len(pixels), -1).tolist()))

    assert {split: num_examples(build().dataset(split)) for split in SPLITS} == SPLITS
    assert rows(images) == rows(whole)


def test_the_seed_fixes_the_splits_and_the_digest():
    same, other = build(seed=0), build(seed=1)

    assert torch.equal(all_of(same.dataset("val"))[0], all_of(build().dataset("val"))[0])
    assert not torch.equal(all_of(same.dataset("val"))[0], all_of(other.dataset("val"))[0])
    assert same.data_digest() == build().data_digest() != other.data_digest()


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_a_corruption_changes_images_within_their_range_and_repeats(name):
    images = all_of(build().dataset("val"))[0]
    before = images.clone()

    first, again, other = (
        CORRUPTIONS[name](images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )

    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, images)
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name == "blur")  # the only one that draws nothing
    assert torch.equal(images, before)


def test_the_seven_shifts_are_known_without_building():
    assert set(shift_names("digits") or ()) == set(CORRUPTIONS)
    assert len(CORRUPTIONS) == 7


def test_a_val_shift_is_of_val_and_a_test_shift_of_test_with_the_targets_kept():
    workload = build()
    shifts = workload.shifts()

    assert {name: shift.split for name, shift in shifts.items()} == {"blur": "val", "noise": "test"}
    for shift in shifts.values():
        targets = all_of(workload.dataset(shift.split))[1]
        assert torch.equal(all_of(shift.dataset())[1], targets)


def test_a_shifted_copy_is_the_same_each_time():
    first, again = (all_of(build().shifts()["noise"].dataset())[0] for _ in range(2))

    assert torch.equal(first, again)


def test_augmentation_of_strength_zero_is_the_batch_itself_and_more_changes_it():
    workload = build()
    batch = take(workload.dataset("train"), torch.arange(8))

    assert workload.augment(batch, 0.0, torch.Generator()) is batch
    changed = workload.augment(batch, 1.0, torch.Generator().manual_seed(0))
    assert not torch.equal(changed[0], batch[0])
    assert torch.equal(changed[1], batch[1])


def test_label_smoothing_is_the_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0] + [0.0] * 7])
    batch = (torch.zeros(1, 1, 8, 8), torch.tensor([0]))
    log_probabilities = logits.log_softmax(dim=1)[0]

    smoothed = build().loss(logits, batch, label_smoothing=0.2)

    by_hand = -(0.8 * log_probabilities[0] + 0.2 * log_probabilities.mean())
    torch.testing.assert_close(smoothed, by_hand.view(1))


def test_weights_come_from_the_generator_alone():
    torch.manual_seed(1)
    first = build().build_model(torch.Generator().manual_seed(0)).state_dict()
    torch.manual_seed(2)
    again = build().build_model(torch.Generator().manual_seed(0)).state_dict()

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert sum(tensor.numel() for tensor in first.values()) < 40_000


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digitz", "did you mean 'digits'"),
        ("no_such_module:Thing", "cannot be imported"),
        ("collections:Countr", "did you mean 'Counter'"),
        ("collections:Counter", "lacks"),
    ],
)
def test_a_workload_that_cannot_be_built_is_an_input_error(name, words):
    with pytest.raises(InputError, match=words):
        build_workload(name, seed=0)


class Guessing(Toy):
    """A workload of a task that there is not."""

    task = "xyz"  # type: ignore[assignment]  # what is under test


def test_a_workload_of_an_unknown_task_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_workload, "Guessing", Guessing, raising=False)

    with pytest.raises(InputError) as caught:
        build_workload("toy_workload:Guessing", seed=0)

    assert str(caught.value) == (
        "unknown task of workload 'toy_workload:Guessing': 'xyz', choose from "
        "['classification', 'language_model', 'regression']"
    )
