"""Cached scores of train's examples, shared by a sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from stockpot.experiment.garbage import find_garbage
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.plan import Plan
from stockpot.ingredients.finetuning.data_pruning import difficulty_scores
from stockpot.ingredients.finetuning.score_cache import train_scores
from stockpot.storage.checkpoints import load_tensors, save_checkpoint
from stockpot.storage.models import Model


def _job(plan: Plan, number: int = 0, **how: Any) -> TrainingJob:
    """Return an ingredient of a finished sweep that keeps half of train."""
    job = plan.ingredient_jobs()[number]
    how = {"kept_data": 0.5} | how
    return replace(job, hyperparameters=replace(job.hyperparameters, **how))


def _files(plan: Plan) -> list[Path]:
    return sorted((plan.project.root / ".stockpot" / "preparations").glob("*"))


def test_scores_of_each_kind_are_computed_once_per_sweep(plan: Plan) -> None:
    models = [make_model(_job(plan, number), "cpu") for number in (0, 1)]
    [kept] = _files(plan)
    written = kept.stat().st_mtime_ns

    make_model(_job(plan, 2, kept_data=0.3), "cpu")
    make_model(_job(plan, 3, difficulty="grand"), "cpu")

    assert all(isinstance(model, Model) for model in models)
    assert len(_files(plan)) == 2
    assert kept.stat().st_mtime_ns == written
    assert kept.name.startswith(plan.base().digest)


def test_cached_scores_are_those_of_the_base_on_train(plan: Plan) -> None:
    job = _job(plan)
    assert job.start is not None

    scores = train_scores(job.root, job.workload, job.start, job.hyperparameters, "cpu")

    base = load_tensors(plan.project.root / job.start.path)
    how, workload = job.hyperparameters, job.workload.build()
    expected = difficulty_scores(workload, base, how, split="train", device="cpu")
    assert torch.equal(scores, expected)
    assert len(scores) == 700


def test_a_run_uses_the_cached_scores(plan: Plan) -> None:
    first = make_model(_job(plan), "cpu")
    [kept] = _files(plan)
    assert isinstance(first, Model)
    (plan.project.root / first.path).unlink()
    save_checkpoint(kept, {"scores": -load_tensors(kept)["scores"]}, {})

    easiest = make_model(_job(plan), "cpu")

    assert isinstance(easiest, Model)
    assert easiest.digest != first.digest


def test_cached_scores_are_kept_as_long_as_the_base(plan: Plan) -> None:
    make_model(_job(plan), "cpu")

    assert not set(_files(plan)) & set(find_garbage(plan.project))


def test_a_run_on_all_of_train_computes_no_scores(plan: Plan) -> None:
    make_model(_job(plan, kept_data=1.0, weight_decay=0.5), "cpu")

    assert _files(plan) == []
