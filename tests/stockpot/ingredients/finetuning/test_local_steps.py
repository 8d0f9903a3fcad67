"""Local steps of a client: on its examples alone, with corrected gradients, resumed bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from killed_runs import Killed
from toy_workload import Toy

from stockpot.ingredients.finetuning import loop
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.local_steps import LocalSteps
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.partial_state import PartialState

HOW = Hyperparameters(
    learning_rate=0.1,
    weight_decay=0.0,
    epochs=99,
    batch_size=8,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=0,
    optimizer="sgd",
    momentum=0.5,
    warmup=0.0,
)
ROWS = torch.tensor([0, 3, 5])
START = {"weight": torch.tensor([[0.5, -0.25], [0.0, 1.0]])}


def _gradient(weight: torch.Tensor) -> torch.Tensor:
    points, targets = Toy(0, (), ()).dataset("train").tensors
    weight = weight.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(points[ROWS] @ weight.T, targets[ROWS])
    (gradient,) = torch.autograd.grad(loss, weight)
    return gradient


def test_a_step_follows_the_scaled_gradient_of_the_rows_plus_the_offset() -> None:
    offset = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    local = LocalSteps(ROWS, 1, scale=0.25, offset={"weight": offset})

    tuned = fine_tune(Toy(0, (), ()), START, HOW, split="train", local=local)

    expected = START["weight"] - 0.1 * (0.25 * _gradient(START["weight"]) + offset)
    torch.testing.assert_close(tuned["weight"], expected, rtol=0, atol=1e-6)
    assert tuned.first_loss == pytest.approx(
        torch.nn.functional.cross_entropy(
            Toy(0, (), ()).dataset("train").tensors[0][ROWS] @ START["weight"].T,
            Toy(0, (), ()).dataset("train").tensors[1][ROWS],
        ).item()
    )


@pytest.mark.parametrize(("batch_size", "steps"), [(2, 1), (2, 3), (1, 7), (8, 2)])
def test_there_are_as_many_steps_as_asked_for(
    batch_size: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Hyperparameters(**{**HOW.described(), "batch_size": batch_size})  # type: ignore[arg-type]
    seen: list[int] = []
    step = loop._step
    monkeypatch.setattr(loop, "_step", lambda run, n, rows: (seen.append(n), step(run, n, rows))[1])

    fine_tune(Toy(0, (), ()), START, how, split="train", local=LocalSteps(ROWS, steps))

    assert seen == list(range(steps))


@pytest.mark.parametrize("killed_after", [1, 4, 6])
def test_a_killed_client_continues_to_the_same_bits(
    killed_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Hyperparameters(**{**HOW.described(), "batch_size": 2})  # type: ignore[arg-type]
    local = LocalSteps(ROWS, 7, scale=0.5, offset={"weight": torch.ones(2, 2)})
    partial = PartialState(tmp_path / "state.safetensors", every_seconds=0)
    whole = fine_tune(Toy(0, (), ()), START, how, split="train", local=local)
    step = loop._step

    def dying(run: object, number: int, rows: torch.Tensor) -> torch.Tensor:
        if number == killed_after:
            raise Killed
        return step(run, number, rows)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", dying)
        with pytest.raises(Killed):
            fine_tune(Toy(0, (), ()), START, how, split="train", local=local, partial=partial)
    was_saved = partial.path.is_file()
    resumed = fine_tune(Toy(0, (), ()), START, how, split="train", local=local, partial=partial)

    assert was_saved
    assert torch.equal(resumed["weight"], whole["weight"])
    assert resumed.first_loss == whole.first_loss
