"""Fine-tuning: resumed bit for bit, divergence, mixup, the schedule, and no global state."""

from dataclasses import replace

import pytest
import torch

from stockpot.errors import InputError
from stockpot.finetuning.hyperparameters import Hyperparameters
from stockpot.finetuning.loop import Diverged, fine_tune, learning_rate_at
from stockpot.finetuning.mixup import mix, mixed_loss
from stockpot.finetuning.partial_state import PartialState
from stockpot.seeding import seeded_generator
from stockpot.workloads import build_workload
from stockpot.workloads.batches import take

WORKLOAD = build_workload("digits", seed=0)
HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.01,
    epochs=2,
    batch_size=64,
    label_smoothing=0.1,
    mixup=0.2,
    augmentation=0.5,
    seed=7,
)
STEPS = 10  # 300 examples in batches of 64, twice


def train(how=HOW, start=None, partial=None):
    return fine_tune(WORKLOAD, start, how, split="pretrain", partial=partial)


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def undisturbed():
    return train()


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("steps_done", [1, 4, 5, 6, 9])
def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path, monkeypatch, undisturbed, steps_done):
    path = tmp_path / "state.safetensors"
    save = PartialState.save

    def save_and_die(state, model, optimizer, progress, *, identity):
        save(state, model, optimizer, progress, identity=identity)
        if progress.step == steps_done:
            raise Killed

    monkeypatch.setattr(PartialState, "save", save_and_die)
    with pytest.raises(Killed):
        train(partial=PartialState(path, every_seconds=0))
    monkeypatch.undo()

    assert path.exists()
    assert same(train(partial=PartialState(path, every_seconds=0)), undisturbed)
    assert not path.exists()


def test_a_damaged_or_foreign_state_starts_over(tmp_path, undisturbed):
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"not a state")

    assert same(train(partial=PartialState(path)), undisturbed)


def test_equal_arguments_give_equal_bits_and_another_seed_does_not(undisturbed):
    assert same(train(), undisturbed)
    assert not same(train(replace(HOW, seed=8)), undisturbed)


def test_the_global_random_state_neither_matters_nor_changes(undisturbed):
    torch.manual_seed(99)
    before = torch.get_rng_state()

    trained = train()

    assert same(trained, undisturbed)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("learning_rate", [1e6, 1e30])
def test_a_run_that_diverges_says_at_which_step(learning_rate):
    with pytest.raises(Diverged, match=rf"became .* at step \d+ of {STEPS}"):
        train(replace(HOW, learning_rate=learning_rate))


def test_a_start_that_does_not_fit_is_an_input_error():
    with pytest.raises(InputError, match="start"):
        train(start={"head.weight": torch.zeros(2, 2)})


def test_the_start_is_where_training_begins(undisturbed):
    barely = train(replace(HOW, learning_rate=1e-12, weight_decay=0.0), start=undisturbed)

    for name, tensor in undisturbed.items():
        torch.testing.assert_close(barely[name], tensor, atol=1e-9, rtol=0)


def test_the_learning_rate_rises_over_a_tenth_and_then_stays():
    rates = [learning_rate_at(step, 20, 1.0) for step in range(20)]

    assert rates == [0.5] + [1.0] * 19


def test_mixup_is_the_mixed_inputs_and_the_mixed_loss_by_hand():
    batch = take(WORKLOAD.dataset("train"), torch.arange(6))
    mixed = mix(batch, 0.25, seeded_generator(0, "partners"))
    partners = torch.randperm(6, generator=seeded_generator(0, "partners"))
    outputs = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))

    losses = mixed_loss(WORKLOAD, outputs, mixed, label_smoothing=0.0)

    cross_entropy = torch.nn.functional.cross_entropy
    one = cross_entropy(outputs, batch[1], reduction="none")
    other = cross_entropy(outputs, batch[1][partners], reduction="none")
    torch.testing.assert_close(mixed.first[0], 0.25 * batch[0] + 0.75 * batch[0][partners])
    torch.testing.assert_close(losses, 0.25 * one + 0.75 * other)
