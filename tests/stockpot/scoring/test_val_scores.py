from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.scoring.val_scores import ValScorer, score_on_val
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

MakeSpec = Callable[..., WorkloadSpec]
SaveModel = Callable[..., Model]

RIGHT = {"weight": torch.eye(2)}
ALWAYS_FIRST = {"weight": torch.tensor([[1.0, 0.0], [0.0, 0.0]])}
SHIFTS = {"val_shifts": ["near", "b"], "test_shifts": ["far"]}


@pytest.fixture
def workload() -> Toy:
    """A workload whose test split and test shifts raise when they are opened."""
    return Toy(0, **SHIFTS, sizes="400,4", closed="test")


@pytest.fixture
def spec() -> WorkloadSpec:
    """The same workload as plain values."""
    options = (("closed", "test"), ("sizes", "400,4"))
    return WorkloadSpec("toy_workload:Toy", 0, ("near", "b"), ("far",), options)


def _accuracy(workload: Toy, weight: torch.Tensor, shift: str | None = None) -> float:
    dataset = workload.dataset("val") if shift is None else workload.shifts()[shift].dataset()
    points, targets = dataset.tensors
    return ((points @ weight.t()).argmax(dim=1) == targets).double().mean().item()


def test_the_closed_workload_does_raise(workload: Toy) -> None:
    with pytest.raises(AssertionError, match="test was opened"):
        workload.dataset("test")
    with pytest.raises(AssertionError, match="test was opened"):
        workload.shifts()["far"].dataset()


def test_a_scorer_scores_the_weights_it_is_given_last(workload: Toy) -> None:
    scorer = ValScorer(workload, "cpu")

    scores = [scorer.val(weights) for weights in (RIGHT, ALWAYS_FIRST, RIGHT)]

    assert scores == [1.0, _accuracy(workload, ALWAYS_FIRST["weight"]), 1.0]
    assert 0.5 < scores[1] < 1


def test_the_shift_score_is_the_mean_over_the_val_shifts(workload: Toy) -> None:
    near = _accuracy(workload, RIGHT["weight"], "near")
    other = _accuracy(workload, RIGHT["weight"], "b")

    assert near < other < 1
    assert ValScorer(workload, "cpu").val_shift(RIGHT) == (near + other) / 2


def test_the_values_of_examples_are_what_the_score_is_the_mean_of(workload: Toy) -> None:
    scorer = ValScorer(workload, "cpu")

    values = scorer.val_values(ALWAYS_FIRST)

    assert values.shape == (400,)
    assert set(values.tolist()) == {0.0, 1.0}
    assert values.mean().item() == scorer.val(ALWAYS_FIRST)


def test_a_model_gets_its_scores_without_opening_test(
    tmp_path: Path, spec: WorkloadSpec, save_model: SaveModel, workload: Toy
) -> None:
    scored = score_on_val(tmp_path, spec, save_model(torch.eye(2)), "cpu")

    near = _accuracy(workload, RIGHT["weight"], "near")
    other = _accuracy(workload, RIGHT["weight"], "b")
    points, targets = workload.dataset("val").tensors
    loss = torch.nn.functional.cross_entropy(points, targets).item()
    assert scored.scores == {
        "val/accuracy": 1.0,
        "val/loss": pytest.approx(loss, abs=1e-6),
        "val_shift/near/accuracy": near,
        "val_shift/b/accuracy": other,
        "val_shift/mean/accuracy": (near + other) / 2,
    }


def test_the_first_metric_is_the_one_that_choices_use(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    spec = make_spec(metric="first output", closed="test")

    scored = score_on_val(tmp_path, spec, save_model(torch.eye(2)), "cpu")

    points = spec.build().dataset("val").tensors[0]
    assert scored.scores["val/first output"] == pytest.approx(points[:, 0].mean().item())
    assert "val/accuracy" not in scored.scores


def test_without_val_shifts_there_are_no_shift_scores(
    tmp_path: Path, save_model: SaveModel
) -> None:
    spec = WorkloadSpec("toy_workload:Toy", 0, (), ("far",), (("closed", "test"),))

    scored = score_on_val(tmp_path, spec, save_model(torch.eye(2)), "cpu")

    assert scored.scores.keys() == {"val/accuracy", "val/loss"}


def test_scores_are_those_of_a_scorer(
    tmp_path: Path, spec: WorkloadSpec, save_model: SaveModel
) -> None:
    weight = torch.tensor([[0.3, -1.2], [1.1, 0.4]])
    scorer = ValScorer(spec.build(), "cpu")

    scored = score_on_val(tmp_path, spec, save_model(weight), "cpu")

    assert scored.scores["val/accuracy"] == scorer.val({"weight": weight})
    assert scored.scores["val_shift/mean/accuracy"] == scorer.val_shift({"weight": weight})


def test_a_model_is_scored_again_from_what_is_kept(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel, passes: list[int]
) -> None:
    spec, model = make_spec(closed="test"), save_model(torch.eye(2))

    scored = score_on_val(tmp_path, spec, model, "cpu")
    (tmp_path / model.path).unlink()
    again = score_on_val(tmp_path, spec, model, "cpu")

    assert again == scored
    assert again.digest == model.digest
    assert passes == [6, 6]


def test_other_weights_or_another_workload_are_scored_anew(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    right, wrong = save_model(torch.eye(2), "right"), save_model(-torch.eye(2), "wrong")

    scored = [
        score_on_val(tmp_path, make_spec(), right, "cpu"),
        score_on_val(tmp_path, make_spec(), wrong, "cpu"),
        score_on_val(tmp_path, make_spec(sizes="400,4"), right, "cpu"),
    ]

    assert [model.scores["val/accuracy"] for model in scored] == [1.0, 0.0, 1.0]


def test_damaged_weights_are_not_scored(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    model = save_model(torch.eye(2))
    content = bytearray((tmp_path / model.path).read_bytes())
    content[-1] ^= 1
    (tmp_path / model.path).write_bytes(content)

    with pytest.raises(InputError, match="the file was changed or damaged"):
        score_on_val(tmp_path, make_spec(), model, "cpu")
