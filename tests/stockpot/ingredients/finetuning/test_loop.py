"""Fine-tuning: resumed bit for bit with any technique, divergence, and no global state."""

from dataclasses import replace

import pytest
import torch

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.divergence import Diverged
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.partial_state import PartialState
from stockpot.seeding import seeded_generator
from stockpot.workloads import build_workload

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
    """Represents the end of the process."""


def train_killed(path, monkeypatch, how, steps_done):
    """Train for some steps, fail, then resume from the saved state."""
    save = PartialState.save

    def save_and_die(state, parts, progress, *, identity):
        save(state, parts, progress, identity=identity)
        if progress.step == steps_done:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PartialState, "save", save_and_die)
        with pytest.raises(Killed):
            train(how, partial=PartialState(path, every_seconds=0))
    assert path.exists()
    return train(how, partial=PartialState(path, every_seconds=0))


@pytest.mark.parametrize("steps_done", [1, 4, 5, 6, 9])
def test_a_killed_run_resumes_bit_for_bit(tmp_path, monkeypatch, undisturbed, steps_done):
    path = tmp_path / "state.safetensors"

    resumed = train_killed(path, monkeypatch, HOW, steps_done)

    assert same(resumed, undisturbed)
    assert not path.exists()


@pytest.mark.parametrize(
    "technique",
    [
        {"optimizer": "sgd", "schedule": "cosine", "clip_norm": 0.1},
        {"optimizer": "adamp", "schedule": "one_cycle", "warmup": 0.3},
        {"optimizer": "adamp", "delta": 0.5, "nesterov": 1, "wd_ratio": 0.3},
        {"optimizer": "sgdp", "nesterov": 1, "schedule": "cosine_power", "min_lr": 1e-4},
        {"average": "ema", "average_start": 1},
        {"average": "swa", "average_start": 1},
        {"schedule": "cosine_power", "accumulation": 3, "precision": "bf16"},
        {"precision": "fp16", "layer_decay": 0.7, "clip_norm": 1.0},
        {"probe_epochs": 1, "epochs": 1, "frozen": "features.0.*"},
        {"average": "ema", "patience": 1},
        {"average": "swa", "swa_start": 0.3, "sam_radius": 0.05},
        {"average": "lawa", "lawa_epochs": 2, "cutmix": 1.0},
        {"sampler": "gradient_norm", "sampler_mix": 0.5, "accumulation": 2},
        {"sampler": "gradient_norm_biased", "average": "ema", "sam_radius": 0.05},
        {"kept_data": 0.9, "dropped_data": 0.05, "reference_batch": 32},
        {"sparsity": 0.8, "schedule": "linear", "optimizer": "adamp"},
        {"sparsity": 0.8, "sparsity_update_every": 2, "accumulation": 2},
        {"sparsity": 0.5, "sparsity_update_every": 1, "sparsity_grow": "random", "patience": 1},
        {"shards": 2, "shard": 2},
        {"adapter": "lora", "average": "ema", "patience": 1},
        {"adapter": "dora", "average": "swa", "swa_start": 0.3, "sam_radius": 0.05},
        {"adapter": "miss", "average": "lawa", "layer_decay": 0.7},
        {"adapter": "bone", "average": "lawa", "layer_decay": 0.7},
        {"adapter": "tucker", "patience": 1, "precision": "bf16"},
        {"subspace": 20, "average": "ema", "patience": 1, "learning_rate": 0.1},
        {"subspace": 20, "subspace_kind": "sparse", "sam_radius": 0.05},
        {"subspace": 20, "subspace_kind": "dense", "clip_norm": 1.0, "average": "lawa"},
        {"compander": 1.2, "layer_decay": 0.7, "clip_norm": 1.0},
        {"bag_size": 4, "rho": 0.5, "mixup": 0.0},
        {"adapter": "lora", "adapter_init": "eva", "precision": "bf16"},
    ],
    ids=lambda technique: " ".join(f"{name}={value}" for name, value in technique.items()),
)
@pytest.mark.parametrize("steps_done", [5])  # an epoch's end, where most can go wrong
def test_killed_runs_with_techniques_resume_bit_for_bit(
    tmp_path, monkeypatch, undisturbed, technique, steps_done
):
    how = replace(HOW, **technique)
    whole = train(how)

    resumed = train_killed(tmp_path / "state.safetensors", monkeypatch, how, steps_done)

    assert same(resumed, whole)
    assert not same(whole, undisturbed)


def test_without_techniques_a_run_is_the_plain_loop():
    """A training loop without techniques, written out."""
    how = replace(HOW, mixup=0.0, augmentation=0.0)
    model = WORKLOAD.build_model(seeded_generator(how.seed, "weights"))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=how.weight_decay, fused=True)
    images, targets = WORKLOAD.dataset("pretrain").tensors
    for epoch in range(how.epochs):
        order = torch.randperm(len(images), generator=seeded_generator(how.seed, "order", epoch))
        for indices in order.split(how.batch_size):
            optimizer.param_groups[0]["lr"] = how.learning_rate  # a warmup of one step is none
            optimizer.zero_grad()
            batch = (images[indices], targets[indices])
            WORKLOAD.loss(model(batch[0]), batch, label_smoothing=0.1).mean().backward()
            optimizer.step()

    assert same(train(how), model.state_dict())


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


def test_start_weights_of_another_model_are_an_input_error():
    with pytest.raises(InputError, match="start"):
        train(start={"head.weight": torch.zeros(2, 2)})


def test_training_begins_at_the_start_weights(undisturbed):
    barely = train(replace(HOW, learning_rate=1e-12, weight_decay=0.0), start=undisturbed)

    for name, tensor in undisturbed.items():
        torch.testing.assert_close(barely[name], tensor, atol=1e-9, rtol=0)


def test_without_epochs_the_model_is_as_it_was_built():
    built = WORKLOAD.build_model(seeded_generator(HOW.seed, "weights")).state_dict()

    assert same(train(replace(HOW, epochs=0)), built)
