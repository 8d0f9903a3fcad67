from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.evaluation.val_scores import ValScorer, score_on_val
from stockpot.models import Model
from stockpot.workloads.spec import WorkloadSpec

RIGHT = {"weight": torch.eye(2)}
ALWAYS_FIRST = {"weight": torch.tensor([[1.0, 0.0], [0.0, 0.0]])}
SHIFTS = {"val_shifts": ["near", "b"], "test_shifts": ["far"]}


@pytest.fixture
def workload() -> Toy:
    """A workload whose test split and test shifts raise when they are opened."""
    return Toy(0, **SHIFTS, sizes="400,4", closed="test")


def _accuracy(workload: Toy, weight: torch.Tensor, shift: str | None = None) -> float:
    dataset = workload.dataset("val") if shift is None else workload.shifts()[shift].dataset()
    points, targets = dataset.tensors
    return ((points @ weight.t()).argmax(dim=1) == targets).double().mean().item()


def test_the_closed_workload_does_raise(workload: Toy) -> None:
    with pytest.raises(AssertionError, match="test was opened"):
        workload.dataset("test")
    with pytest.raises(AssertionError, match="test was opened"):
        workload.shifts()["far"].dataset()


def test_scores_are_made_without_opening_test(workload: Toy) -> None:
    scorer = ValScorer(workload, "cpu")

    scores = scorer.all_scores(RIGHT)

    assert scores.keys() == {
        "val/accuracy",
        "val/loss",
        "val_shift/near/accuracy",
        "val_shift/b/accuracy",
        "val_shift/mean/accuracy",
    }
    assert scores["val/accuracy"] == scorer.val(RIGHT) == 1.0
    assert scores["val_shift/mean/accuracy"] == scorer.val_shift(RIGHT)


def test_scores_are_the_mean_metric_of_each_set(workload: Toy) -> None:
    scores = ValScorer(workload, "cpu").all_scores(RIGHT)

    near = _accuracy(workload, RIGHT["weight"], "near")
    other = _accuracy(workload, RIGHT["weight"], "b")
    assert near < other < 1
    assert scores["val_shift/near/accuracy"] == near
    assert scores["val_shift/b/accuracy"] == other
    assert scores["val_shift/mean/accuracy"] == (near + other) / 2


def test_a_scorer_scores_the_weights_it_is_given_last(workload: Toy) -> None:
    scorer = ValScorer(workload, "cpu")

    scores = [scorer.val(weights) for weights in (RIGHT, ALWAYS_FIRST, RIGHT)]

    assert scores == [1.0, _accuracy(workload, ALWAYS_FIRST["weight"]), 1.0]
    assert 0.5 < scores[1] < 1


def test_the_first_metric_is_the_one_that_choices_use(workload: Toy) -> None:
    assert ValScorer(workload, "cpu").metric == "accuracy"


def test_the_loss_is_the_mean_loss_on_val(workload: Toy) -> None:
    points, targets = workload.dataset("val").tensors

    scores = ValScorer(workload, "cpu").all_scores(RIGHT)

    expected = torch.nn.functional.cross_entropy(points, targets).item()
    assert scores["val/loss"] == pytest.approx(expected, abs=1e-6)


def test_without_val_shifts_there_are_no_shift_scores() -> None:
    scores = ValScorer(Toy(0, [], ["far"], closed="test"), "cpu").all_scores(RIGHT)

    assert scores.keys() == {"val/accuracy", "val/loss"}


def test_scores_are_kept_by_weights(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> None:
    spec, model = make_spec(closed="test"), save_model(torch.eye(2))

    scored = score_on_val(tmp_path, spec, model, "cpu")
    (tmp_path / model.path).unlink()
    again = score_on_val(tmp_path, spec, model, "cpu")

    assert scored.scores["val/accuracy"] == 1.0
    assert again == scored
    assert again.digest == model.digest


def test_other_weights_or_another_workload_are_scored_anew(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> None:
    right, wrong = save_model(torch.eye(2), "right"), save_model(-torch.eye(2), "wrong")

    scored = [
        score_on_val(tmp_path, make_spec(), right, "cpu"),
        score_on_val(tmp_path, make_spec(), wrong, "cpu"),
        score_on_val(tmp_path, make_spec(sizes="400,4"), right, "cpu"),
    ]

    assert [model.scores["val/accuracy"] for model in scored] == [1.0, 0.0, 1.0]
    assert len(list((tmp_path / ".stockpot" / "scores").iterdir())) == 3


def test_damaged_weights_are_not_scored(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> None:
    model = save_model(torch.eye(2))
    content = bytearray((tmp_path / model.path).read_bytes())
    content[-1] ^= 1
    (tmp_path / model.path).write_bytes(content)

    with pytest.raises(InputError, match="the file was changed or damaged"):
        score_on_val(tmp_path, make_spec(), model, "cpu")

    assert not (tmp_path / ".stockpot" / "scores").exists()


def test_kept_scores_are_readable(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> None:
    scored = score_on_val(tmp_path, make_spec(), save_model(torch.eye(2)), "cpu")

    [kept] = (tmp_path / ".stockpot" / "scores").iterdir()

    assert json.loads(kept.read_text()) == scored.scores
