"""Snapshots along a run as further ingredients, and soups of selected ingredients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.plan import Plan
from stockpot.experiment.reproduction import rebuild
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.models import Failure, Model

MakePlan = Callable[..., Plan]
SPACE = "sweep.space={learning_rate: 0.003, warmup: 0.0, epochs: 4}"


@pytest.fixture
def job(make_plan: MakePlan) -> TrainingJob:
    """A run of four epochs with two snapshots and a constant learning rate."""
    return make_plan(SPACE, "sweep.snapshots=2").ingredient_jobs()[0]


def _trained(job: TrainingJob) -> Model:
    model = make_model(job, "cpu")
    assert isinstance(model, Model)
    return model


def test_a_snapshot_is_the_end_of_a_shorter_run(job: TrainingJob) -> None:
    end = _trained(job)
    first, second = job.snapshot_jobs
    assert [first.find() is not None, second.find() is not None] == [True, True]

    kept = _trained(first)

    hyperparameters = replace(job.hyperparameters, epochs=1)
    shorter = _trained(replace(job, hyperparameters=hyperparameters, snapshots=()))
    expected, weights = (load_tensors(job.root / model.path) for model in (shorter, kept))
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert kept.scores == shorter.scores
    assert (kept.name, second.name) == ("ingredient-00-epoch-1", "ingredient-00-epoch-3")
    assert kept.details["epoch"] == 1
    assert len({end.digest, kept.digest, _trained(second).digest}) == 3


def test_snapshots_do_not_change_the_run(job: TrainingJob) -> None:
    plain = _trained(replace(job, snapshots=()))
    (job.root / plain.path).unlink()

    assert _trained(job) == plain


def test_a_missing_snapshot_is_rebuilt_to_the_same_bits(job: TrainingJob) -> None:
    _trained(job)
    kept = _trained(job.snapshot_jobs[1])
    (job.root / kept.path).unlink()

    assert _trained(job.snapshot_jobs[1]) == kept
    assert job.find() is not None


def test_a_snapshot_is_rebuilt_from_its_record(job: TrainingJob) -> None:
    _trained(job)
    snapshot = job.snapshot_jobs[0]
    kept = _trained(snapshot)
    place = job.root / "again"
    place.mkdir()

    again = rebuild(snapshot.provenance(kept), job.root, place, (), "cpu")

    assert (again.digest, again.scores) == (kept.digest, kept.scores)


def test_a_run_that_ends_early_has_no_later_snapshots(job: TrainingJob) -> None:
    how = replace(job.hyperparameters, learning_rate=1e-9, epochs=9, patience=1)
    early = replace(job, hyperparameters=how, snapshots=(1, 8))
    _trained(early)

    late = make_model(early.snapshot_jobs[1], "cpu")

    assert isinstance(late, Failure)
    assert late.reason == "the run stopped before epoch 8"
    assert isinstance(make_model(early.snapshot_jobs[0], "cpu"), Model)


@pytest.mark.parametrize(
    ("epochs", "count", "kept"), [(8, 3, (2, 4, 6)), (2, 5, (1,)), (1, 3, ()), (6, 0, ())]
)
def test_snapshots_are_evenly_spaced_between_start_and_end(
    make_plan: MakePlan, epochs: int, count: int, kept: tuple[int, ...]
) -> None:
    plan = make_plan(f"sweep.space={{epochs: {epochs}}}", f"sweep.snapshots={count}")

    assert plan.ingredient_jobs()[0].snapshots == kept
    assert plan.base_job().snapshots == ()


def test_a_soup_of_the_ingredients_that_patterns_name(plan: Plan, make_plan: MakePlan) -> None:
    recipe = "{name: some, select: uniform, ingredients: [ingredient-00, '*-03']}"
    soup = make_model(make_plan(f"soups=[{recipe}]").soup_jobs()[0], "cpu")

    first, _, _, last = plan.ingredients()
    states = [load_tensors(plan.project.root / model.path) for model in (first, last)]
    expected = merge_states(states, Recipe("linear", (1.0, 1.0)))
    weights = load_tensors(plan.project.root / soup.path)
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert [*soup.details["coefficients"]] == [first.name, last.name]


def test_a_pattern_that_matches_no_ingredient_is_refused(make_plan: MakePlan) -> None:
    plan = make_plan("soups=[{name: s, select: greedy, ingredients: [ingredient-0*, imported-*]}]")

    with pytest.raises(InputError, match=r"soup 's': ingredients must be .*got 'imported-\*'"):
        plan.soup_jobs()


def test_snapshots_are_spaced_over_the_epochs_that_a_large_batch_takes(make_plan: MakePlan) -> None:
    large = "sweep.space={epochs: 3, batch_size: 64, reference_batch: 16}"

    job = make_plan(large, "sweep.snapshots=2").ingredient_jobs()[0]

    assert job.snapshots == (4, 8)
    assert _trained(job.snapshot_jobs[1]).name == "ingredient-00-epoch-8"


def test_a_soup_along_a_run_has_its_checkpoints_in_their_order(
    plan: Plan, job: TrainingJob
) -> None:
    end = _trained(job)
    along = SoupJob(
        root=job.root,
        workload=job.workload,
        metric=plan.metric,
        seed=0,
        name="decayed",
        select="uniform",
        method="wsm",
        options={"decay": "cosine"},
        base=plan.base(),
        ingredients=(end, *(_trained(each) for each in job.snapshot_jobs)),
    )

    soup = make_model(along, "cpu")

    assert isinstance(soup, Model)
    names = ["ingredient-00-epoch-1", "ingredient-00-epoch-3", "ingredient-00"]
    assert [model.name for model in along.merged(soup)] == names
    assert [soup.details["coefficients"][n] for n in names] == pytest.approx([1 / 4, 1 / 2, 1 / 4])
    place = job.root / "again"
    place.mkdir()
    assert rebuild(along.provenance(soup), job.root, place, (), "cpu").digest == soup.digest
    with pytest.raises(InputError, match="wsm: merges checkpoints of one run"):
        make_model(replace(along, ingredients=(end, *plan.ingredients()[1:])), "cpu")
