"""Ghost BatchNorm, and the schedule of large batches."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from killed_runs import train_killed
from torch import Generator, Tensor, nn

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.ghost_batches import use_ghost_batches
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.large_batches import adapted
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.workloads.digits import Digits
from stockpot.workloads.tabular import Tabular

HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.01,
    epochs=2,
    batch_size=100,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
)
LAYERS = {1: (nn.BatchNorm1d, ()), 2: (nn.BatchNorm2d, (3, 3)), 3: (nn.BatchNorm3d, (2, 2, 2))}


def _layers(axes: int, size: int) -> tuple[nn.Module, nn.Module, Tensor]:
    """Return a BatchNorm layer of 4 channels, its ghost, and inputs of 20 examples."""
    kind, shape = LAYERS[axes]
    generator = torch.Generator().manual_seed(axes)
    plain = nn.Sequential(kind(4))
    nn.init.normal_(plain[0].weight, generator=generator)
    ghost = copy.deepcopy(plain)
    use_ghost_batches(ghost, size)
    return plain, ghost, 3 * torch.randn(20, 4, *shape, generator=generator) + 1


def _assert_same_state(first: nn.Module, second: nn.Module) -> None:
    states = first.state_dict(), second.state_dict()
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize("axes", LAYERS)
@pytest.mark.parametrize("size", [20, 32])
def test_one_ghost_batch_is_batch_norm(axes: int, size: int) -> None:
    plain, ghost, inputs = _layers(axes, size)

    outputs = ghost(inputs)

    assert torch.equal(outputs, plain(inputs))
    _assert_same_state(ghost, plain)


@pytest.mark.parametrize("axes", LAYERS)
def test_in_eval_mode_it_is_batch_norm(axes: int) -> None:
    plain, ghost, inputs = _layers(axes, 8)

    assert torch.equal(ghost.eval()(inputs), plain.eval()(inputs))


@pytest.mark.parametrize("axes", LAYERS)
def test_each_ghost_batch_is_normalised_by_itself(axes: int) -> None:
    _, ghost, inputs = _layers(axes, 8)
    nn.init.ones_(ghost[0].weight)  # type: ignore[index]

    parts = torch.split(ghost(inputs), 8)

    assert [len(part) for part in parts] == [8, 8, 4]
    for part in parts:
        channels = part.transpose(0, 1).flatten(1)
        torch.testing.assert_close(channels.mean(dim=1), torch.zeros(4), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            channels.var(dim=1, unbiased=False), torch.ones(4), atol=1e-3, rtol=0
        )


def test_running_statistics_take_in_one_ghost_batch_after_the_other() -> None:
    plain, ghost, inputs = _layers(2, 8)

    ghost(inputs)
    for part in torch.split(inputs, 8):
        plain(part)

    _assert_same_state(ghost, plain)


@pytest.mark.parametrize(("axes", "expected"), [(1, [8, 9]), (2, [8, 8, 1])])
def test_a_last_example_without_variance_joins_the_ghost_batch_before(
    axes: int, expected: list[int]
) -> None:
    plain, ghost, inputs = _layers(axes, 8)

    outputs = ghost(inputs[:17])

    separately = [plain(part) for part in torch.split(inputs[:17], expected)]
    assert torch.equal(outputs, torch.cat(separately))


class _OwnNorm(nn.BatchNorm2d):
    """A user's own kind of BatchNorm, with a forward pass of its own."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + 1


@pytest.mark.parametrize("kind", [_OwnNorm, nn.SyncBatchNorm, nn.LazyBatchNorm2d])
@pytest.mark.parametrize("is_loaded", [False, True])
def test_every_kind_of_batch_norm_has_ghost_batches(kind: type[nn.Module], is_loaded: bool) -> None:
    is_lazy = issubclass(kind, nn.LazyBatchNorm2d)
    plain, ghost = (nn.Sequential(kind() if is_lazy else kind(4)) for _ in range(2))
    if is_loaded:  # which builds the weights of a lazy layer, but not the layer
        weights = nn.BatchNorm2d(4).state_dict()
        for net in (plain, ghost):
            net[0].load_state_dict(weights)
    use_ghost_batches(ghost, 8)
    inputs = 3 * torch.randn(17, 4, 1, 1, generator=torch.Generator().manual_seed(0)) + 1

    outputs = ghost(inputs)

    separately = [plain(part) for part in torch.split(inputs, [8, 9])]
    assert torch.equal(outputs, torch.cat(separately))
    assert torch.equal(ghost(inputs), torch.cat([plain(inputs[:8]), plain(inputs[8:])]))
    _assert_same_state(ghost, plain)


def test_the_tabular_workload_trains_with_ghost_batches(tmp_path: Path) -> None:
    rows = [f"{number},{number % 7},{number % 2}" for number in range(120)]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,y", *rows]), encoding="utf-8")
    workload = Tabular(0, [], [], data=str(tmp_path / "table.csv"), target="y")
    how = replace(HOW, batch_size=16)

    plain, ghost = (
        fine_tune(workload, None, replace(how, ghost_batch=size), split="pretrain")
        for size in (0, 4)
    )

    assert [*ghost] == [*plain]
    assert any(not torch.equal(ghost[name], plain[name]) for name in plain)


def test_a_model_without_batch_norm_is_refused() -> None:
    with pytest.raises(InputError, match="ghost_batch: the model must have BatchNorm layers"):
        use_ghost_batches(nn.Linear(2, 2), 8)


@pytest.mark.parametrize("epochs", [0, 3])
def test_the_schedule_keeps_steps_and_scales_the_rate_by_the_root(epochs: int) -> None:
    meant = replace(HOW, batch_size=25, epochs=epochs, probe_epochs=1)

    large = adapted(replace(meant, batch_size=100, reference_batch=25))

    assert large.learning_rate == pytest.approx(2 * meant.learning_rate)
    assert (large.epochs, large.probe_epochs, large.batch_size) == (4 * epochs, 4, 100)
    assert large.epochs * math.ceil(300 / 100) == meant.epochs * math.ceil(300 / 25)
    assert adapted(replace(meant, reference_batch=25)) == meant
    assert adapted(meant) is meant


def test_a_smaller_batch_than_meant_has_at_least_one_epoch() -> None:
    assert adapted(replace(HOW, batch_size=10, reference_batch=100)).epochs == 1


class NormedDigits(Digits):
    """The digits, for a model with BatchNorm."""

    def build_model(self, generator: Generator) -> nn.Module:
        layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10)
        )
        for parameter in layers.parameters():
            nn.init.normal_(parameter, std=0.2, generator=generator)
        return layers


NORMED = NormedDigits(0, [], [])


def _train(**how: float | str) -> dict[str, Tensor]:
    hyperparameters = replace(HOW, **how)  # type: ignore[arg-type]
    return dict(fine_tune(NORMED, None, hyperparameters, split="pretrain"))


def test_a_run_with_ghost_batches_gives_a_plain_model_with_other_weights() -> None:
    plain, ghost = _train(), _train(ghost_batch=20)

    NORMED.build_model(torch.Generator()).load_state_dict(ghost)
    assert [*ghost] == [*plain]
    assert not torch.equal(ghost["1.weight"], plain["1.weight"])
    torch.testing.assert_close(_train(ghost_batch=100), plain, rtol=0, atol=0)


def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    how = {"ghost_batch": 24, "reference_batch": 50}

    resumed = train_killed(NORMED, replace(HOW, **how), tmp_path)

    torch.testing.assert_close(resumed, _train(**how), rtol=0, atol=0)
