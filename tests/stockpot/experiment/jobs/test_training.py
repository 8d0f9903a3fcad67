"""Training on the digits: stored models are not trained again, and killed runs resume."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import worker_jobs

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.plan import Plan
from stockpot.storage.checkpoints import load_tensors, read_metadata
from stockpot.storage.models import Failure, Model
from stockpot.storage.store import Store
from stockpot.workers import WorkerLost, WorkerPool


@pytest.fixture
def job(plan: Plan) -> TrainingJob:
    """The first ingredient of a finished sweep."""
    return plan.ingredient_jobs()[0]


def _with(job: TrainingJob, **hyperparameters: Any) -> TrainingJob:
    return replace(job, hyperparameters=replace(job.hyperparameters, **hyperparameters))


def _state_of_files(root: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and modification time of each file of the store."""
    states = {path: path.stat() for path in Store(root).files()}
    return {path.name: (state.st_ino, state.st_mtime_ns) for path, state in states.items()}


def test_an_ingredient_that_the_store_has_is_not_trained_again(
    plan: Plan, job: TrainingJob
) -> None:
    files_before = _state_of_files(plan.project.root)

    again = make_model(job, "cpu")

    assert again == plan.ingredients()[0]
    assert _state_of_files(plan.project.root) == files_before


def test_an_ingredient_whose_weights_are_gone_is_trained_to_the_same_bits(
    plan: Plan, job: TrainingJob
) -> None:
    first = plan.ingredients()[0]
    (plan.project.root / first.path).unlink()

    again = make_model(job, "cpu")

    assert again == first
    assert (plan.project.root / first.path).is_file()


def test_a_base_is_trained_to_the_same_bits_in_another_project(plan: Plan, tmp_path: Path) -> None:
    job = replace(plan.base_job(), root=tmp_path / "other")

    again = make_model(job, "cpu")

    assert again == make_model(plan.base_job(), "cpu")
    assert (tmp_path / "other" / again.path).is_file()


def test_an_ingredient_differs_from_the_base_it_started_from(plan: Plan, job: TrainingJob) -> None:
    root = plan.project.root
    assert job.start is not None
    base, ingredient = (
        load_tensors(root / path) for path in (job.start.path, plan.ingredients()[0].path)
    )

    assert base.keys() == ingredient.keys()
    assert not any(torch.equal(tensor, ingredient[name]) for name, tensor in base.items())


def test_a_model_is_scored_on_val_and_its_shifts(plan: Plan) -> None:
    scores = plan.ingredients()[0].scores

    assert scores.keys() == {
        "val/accuracy",
        "val/loss",
        "val_shift/blur/accuracy",
        "val_shift/scale/accuracy",
        "val_shift/mean/accuracy",
    }
    assert scores["val/accuracy"] > 0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [("threads", 2), ("start", None), ("kind", "base")],
)
def test_another_field_makes_another_key(job: TrainingJob, field: str, value: object) -> None:
    assert replace(job, **{field: value}).key != job.key


@pytest.mark.parametrize(
    ("hyperparameter", "value"),
    [
        ("learning_rate", 0.5),
        ("weight_decay", 0.5),
        ("epochs", 50),
        ("batch_size", 50),
        ("label_smoothing", 0.5),
        ("mixup", 0.5),
        ("augmentation", 0.5),
        ("seed", 50),
        ("optimizer", "sgd"),
        ("frozen", "features.0.*"),
    ],
)
def test_another_hyperparameter_makes_another_key(
    job: TrainingJob, hyperparameter: str, value: float | str
) -> None:
    assert _with(job, **{hyperparameter: value}).key != job.key


def test_name_place_and_saving_do_not_change_the_key(job: TrainingJob, tmp_path: Path) -> None:
    other = replace(job, name="other", root=tmp_path, save_every_seconds=1.0)

    assert other.key == job.key


def test_shifts_do_not_change_the_key_and_another_seed_of_the_data_does(job: TrainingJob) -> None:
    without_shifts = replace(job.workload, val_shifts=(), test_shifts=())
    other_splits = replace(job.workload, seed=1)

    assert replace(job, workload=without_shifts).key == job.key
    assert replace(job, workload=other_splits).key != job.key


@pytest.fixture
def diverging(job: TrainingJob) -> TrainingJob:
    return _with(job, learning_rate=1e9)


def test_a_run_that_diverges_is_a_failure_with_its_reason(diverging: TrainingJob) -> None:
    failure = make_model(diverging, "cpu")

    assert isinstance(failure, Failure)
    assert (failure.name, failure.key, failure.final) == ("ingredient-00", diverging.key, True)
    assert failure.hyperparameters["learning_rate"] == 1e9
    assert failure.reason.startswith("loss became ")
    assert failure.reason.endswith(" of 22")
    assert diverging.find() is None


def test_a_run_that_diverged_is_not_tried_again(plan: Plan, diverging: TrainingJob) -> None:
    first = make_model(diverging, "cpu")
    assert diverging.start is not None
    (plan.project.root / diverging.start.path).unlink()  # without it, nothing can be trained

    again = make_model(diverging, "cpu")

    assert again == first
    assert diverging.known_failure() == first


def test_a_good_run_has_no_known_failure(job: TrainingJob) -> None:
    assert job.known_failure() is None


def test_a_damaged_base_trains_nothing(plan: Plan, job: TrainingJob) -> None:
    assert job.start is not None
    base = plan.project.root / job.start.path
    base.write_bytes(base.read_bytes()[:-1] + b"\x01")
    files_before = _state_of_files(plan.project.root)

    with pytest.raises(InputError, match="the file was changed or damaged"):
        make_model(_with(job, epochs=2), "cpu")

    assert _state_of_files(plan.project.root) == files_before


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    """Return a pool of one worker, with separate device slots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("slots")))
        opened = WorkerPool(["cpu"], threads=1)
        yield opened
        opened.close()


def _kill_while_training(pool: WorkerPool, job: TrainingJob, partial: Path) -> None:
    """Kill the worker once it has saved a state."""
    worker = pool.run(worker_jobs.process_id)
    with ThreadPoolExecutor(1) as threads:
        training = threads.submit(pool.run, make_model, job)
        while not partial.exists():
            assert not training.done()
            time.sleep(0.001)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(WorkerLost, match="signal 9"):
            training.result()


def test_a_killed_run_continues_and_ends_with_the_same_bits(
    plan: Plan, job: TrainingJob, pool: WorkerPool, tmp_path: Path
) -> None:
    long = replace(_with(job, epochs=3), save_every_seconds=1e6)
    partial = plan.project.root / ".stockpot" / "partial" / f"{long.key}.safetensors"
    shutil.copytree(plan.project.root, tmp_path / "other")
    whole = pool.run(make_model, replace(long, root=tmp_path / "other"))

    _kill_while_training(pool, replace(long, save_every_seconds=0.0), partial)
    steps_done = int(read_metadata(partial)["step"])
    found_when_half_done = long.find()
    resumed = pool.run(make_model, long)

    assert 0 < steps_done < 3 * 22
    assert found_when_half_done is None
    assert isinstance(whole, Model)
    assert resumed == whole
    assert not partial.exists()
