from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.experiment.jobs.judging import predict_model
from stockpot.judging.job import PredictionJob
from stockpot.judging.test_sets import predict_on_sets
from stockpot.judging.test_sets import test_sets as sets_of_test
from stockpot.scoring.predictions import (
    load_losses,
    load_outputs,
    load_targets,
    predict,
    predictions_path,
    targets_path,
    val_sets,
)
from stockpot.scoring.val_scores import score_on_val
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

WEIGHT = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
SETS = ("val", "val_shift/near", "test", "test_shift/a", "test_shift/far away")
SIZES = {"val": 6, "val_shift/near": 6, "test": 4, "test_shift/a": 4, "test_shift/far away": 4}

MakeSpec = Callable[..., WorkloadSpec]
SaveModel = Callable[..., Model]


def test_the_sets_are_val_and_test_and_their_shifts(make_spec: MakeSpec) -> None:
    assert (*val_sets(make_spec()), *sets_of_test(make_spec())) == SETS
    assert val_sets(WorkloadSpec("toy_workload:Toy", seed=0)) == ("val",)


def test_kept_is_what_a_model_puts_out_and_loses_on_each_set(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    spec, model = make_spec(), save_model(WEIGHT)

    predict_on_sets(tmp_path, spec, model.checkpoint, "cpu", SETS)

    workload = spec.build()
    moved = {f"{s.split}_shift/{n}": s.dataset() for n, s in workload.shifts().items()}
    for name, dataset in ({n: workload.dataset(n) for n in ("val", "test")} | moved).items():
        points, targets = dataset.tensors
        outputs = load_outputs(tmp_path, spec, model.digest, name)
        torch.testing.assert_close(outputs, points @ WEIGHT.t())
        assert torch.equal(load_targets(tmp_path, spec, name), targets)
        losses = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
        torch.testing.assert_close(load_losses(tmp_path, spec, model.digest, name), losses)


def test_each_set_is_passed_through_a_model_once(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel, passes: list[int]
) -> None:
    models = [save_model(WEIGHT, "one"), save_model(-WEIGHT, "other")]
    jobs = [PredictionJob(tmp_path, make_spec(), model, SETS) for model in models]

    for _ in range(2):
        for job in jobs:
            predict_model(job, "cpu")

    assert passes == 2 * list(SIZES.values())
    assert [job.name for job in jobs] == ["one", "other"]


def test_what_val_scores_were_made_of_is_not_passed_again(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel, passes: list[int]
) -> None:
    model = save_model(WEIGHT)

    score_on_val(tmp_path, make_spec(), model, "cpu")
    on_val = list(passes)
    predict_on_sets(tmp_path, make_spec(), model.checkpoint, "cpu", SETS)

    assert on_val == [6, 6]
    assert passes == list(SIZES.values())


def test_a_new_shift_is_all_that_is_passed(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel, passes: list[int]
) -> None:
    model, fewer, more = save_model(WEIGHT), make_spec(("a",)), make_spec(("a", "far away"))
    predict_on_sets(
        tmp_path, fewer, model.checkpoint, "cpu", (*val_sets(fewer), *sets_of_test(fewer))
    )
    passes.clear()

    predict_on_sets(tmp_path, more, model.checkpoint, "cpu", (*val_sets(more), *sets_of_test(more)))

    assert passes == [4]
    points = more.build().shifts()["far away"].dataset().tensors[0]
    kept = load_outputs(tmp_path, more, model.digest, "test_shift/far away")
    torch.testing.assert_close(kept, points @ WEIGHT.t())


def test_val_is_predicted_without_opening_test(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    spec, model = make_spec(closed="test"), save_model(WEIGHT)

    predict(tmp_path, spec, model.checkpoint, "cpu", val_sets(spec))

    with pytest.raises(AssertionError, match="test was opened"):
        predict_on_sets(tmp_path, spec, model.checkpoint, "cpu", ["test"])


def test_scoring_opens_neither_test_nor_its_shifts_by_itself(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    spec, model = make_spec(), save_model(WEIGHT)

    for name in sets_of_test(spec):
        with pytest.raises(ValueError, match=f"must be one of .*, got '{name}'"):
            predict(tmp_path, spec, model.checkpoint, "cpu", [name])


def test_kept_predictions_need_no_weights(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    model = save_model(WEIGHT)
    predict_on_sets(tmp_path, make_spec(), model.checkpoint, "cpu", SETS)
    path = predictions_path(tmp_path, make_spec(), model.digest, "test")
    written = path.stat().st_mtime_ns
    (tmp_path / model.path).unlink()

    predict_on_sets(tmp_path, make_spec(), model.checkpoint, "cpu", SETS)

    assert path.stat().st_mtime_ns == written


def _cut(content: bytes) -> bytes:
    return content[:-5]


def _flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _empty(_: bytes) -> bytes:
    return b""


def _garble(content: bytes) -> bytes:
    return bytes(len(content))


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, _garble])
def test_damaged_predictions_are_made_again(
    tmp_path: Path,
    make_spec: MakeSpec,
    save_model: SaveModel,
    passes: list[int],
    damage: Callable[[bytes], bytes],
) -> None:
    model = save_model(WEIGHT)
    predict_on_sets(tmp_path, make_spec(), model.checkpoint, "cpu", SETS)
    path = predictions_path(tmp_path, make_spec(), model.digest, "test_shift/a")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    passes.clear()

    with pytest.raises(InputError, match="predictions on test_shift/a: must be cached and intact"):
        load_outputs(tmp_path, make_spec(), model.digest, "test_shift/a")
    predict_on_sets(tmp_path, make_spec(), model.checkpoint, "cpu", SETS)

    assert path.read_bytes() == whole
    assert passes == [4]


def test_damaged_targets_are_made_again_without_a_pass(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel, passes: list[int]
) -> None:
    model = save_model(WEIGHT)
    predict_on_sets(tmp_path, make_spec(), model.checkpoint, "cpu", SETS)
    path = targets_path(tmp_path, make_spec(), "test")
    whole = path.read_bytes()
    path.write_bytes(_flip(whole))
    passes.clear()

    predict_on_sets(tmp_path, make_spec(), model.checkpoint, "cpu", SETS)

    assert path.read_bytes() == whole
    assert passes == []


def test_other_weights_sets_or_data_have_predictions_of_their_own(
    tmp_path: Path, make_spec: MakeSpec
) -> None:
    spec = make_spec()

    paths = {
        predictions_path(tmp_path, spec, "digest a", "val"),
        predictions_path(tmp_path, spec, "digest b", "val"),
        predictions_path(tmp_path, spec, "digest a", "test"),
        predictions_path(tmp_path, replace(spec, seed=1), "digest a", "val"),
        predictions_path(tmp_path, make_spec(sizes="6,5"), "digest a", "val"),
    }

    assert len(paths) == 5


@pytest.mark.parametrize(
    ("edited", "is_another"),
    [
        ("workloads.passes", True),
        ("workloads.batches", True),
        ("scoring.metrics.classification", False),
        ("judging.judge", False),
        ("statistics.values", False),
    ],
)
def test_predictions_depend_on_the_code_of_forward_passes_alone(
    tmp_path: Path,
    make_spec: MakeSpec,
    edit: Callable[[str], None],
    edited: str,
    is_another: bool,
) -> None:
    before = predictions_path(tmp_path, make_spec(), "digest", "val")
    edit(f"stockpot.{edited}")

    assert (predictions_path(tmp_path, make_spec(), "digest", "val") != before) == is_another


def test_half_precision_is_kept_as_float32(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_model(WEIGHT)
    monkeypatch.setattr(Toy, "forward", lambda _, net, batch: net(batch[0]).bfloat16())

    predict(tmp_path, make_spec(), model.checkpoint, "cpu", ["val"])

    kept = load_outputs(tmp_path, make_spec(), model.digest, "val")
    points = make_spec().build().dataset("val").tensors[0]
    assert kept.dtype == torch.float32
    assert torch.equal(kept, (points @ WEIGHT.t()).bfloat16().float())


def test_missing_weights_leave_no_predictions(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    model = save_model(WEIGHT)
    (tmp_path / model.path).unlink()

    with pytest.raises(InputError, match="no such checkpoint; run `dvc pull` or `stockpot run`"):
        predict_on_sets(tmp_path, make_spec(), model.checkpoint, "cpu", SETS)

    assert not (tmp_path / ".stockpot" / "predictions").exists()
