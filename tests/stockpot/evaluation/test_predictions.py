from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stockpot.errors import InputError
from stockpot.evaluation.judging_jobs import PredictionJob, predict_model
from stockpot.evaluation.predictions import load_predictions, predict, predictions_path
from stockpot.models import Model
from stockpot.workloads.spec import WorkloadSpec

WEIGHT = torch.tensor([[1.0, 2.0], [3.0, -4.0]])

MakeSpec = Callable[..., WorkloadSpec]
SaveModel = Callable[..., Model]


def test_predictions_are_the_outputs_on_everything_that_is_judged(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    spec, model = make_spec(), save_model(WEIGHT)

    predictions = load_predictions(predict(tmp_path, spec, model.checkpoint, "cpu"))

    workload = spec.build()
    sets = {
        "val": workload.dataset("val"),
        "test": workload.dataset("test"),
        "val_shift/near": workload.shifts()["near"].dataset(),
        "test_shift/a": workload.shifts()["a"].dataset(),
        "test_shift/far away": workload.shifts()["far away"].dataset(),
    }
    assert predictions.keys() == sets.keys()
    for name, dataset in sets.items():
        torch.testing.assert_close(predictions[name], dataset.tensors[0] @ WEIGHT.t())


def test_kept_predictions_are_not_made_again(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    model = save_model(WEIGHT)
    job = PredictionJob(tmp_path, make_spec(), model)
    path = predict_model(job, "cpu")
    written = path.stat()
    (tmp_path / model.path).unlink()

    again = predict_model(job, "cpu")

    assert again == path == predictions_path(tmp_path, make_spec(), model.digest)
    assert path.stat().st_mtime_ns == written.st_mtime_ns
    assert job.name == model.name


def test_other_weights_shifts_or_data_have_predictions_of_their_own(
    tmp_path: Path, make_spec: MakeSpec
) -> None:
    spec = make_spec()

    paths = {
        predictions_path(tmp_path, spec, "digest a"),
        predictions_path(tmp_path, spec, "digest b"),
        predictions_path(tmp_path, replace(spec, seed=1), "digest a"),
        predictions_path(tmp_path, replace(spec, test_shifts=("a",)), "digest a"),
        predictions_path(tmp_path, make_spec(sizes="6,5"), "digest a"),
    }

    assert len(paths) == 5


def test_missing_weights_leave_no_predictions(
    tmp_path: Path, make_spec: MakeSpec, save_model: SaveModel
) -> None:
    model = save_model(WEIGHT)
    (tmp_path / model.path).unlink()

    with pytest.raises(InputError, match="no such checkpoint; run `dvc pull` or `stockpot run`"):
        predict(tmp_path, make_spec(), model.checkpoint, "cpu")

    assert not (tmp_path / ".stockpot" / "predictions").exists()
