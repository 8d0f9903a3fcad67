"""Phases of pruning, retraining and averaging (sparse model soups), each from the last average."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from plans_after_base import MakePlan, after_the_base, made

from stockpot.errors import InputError, StageFailed
from stockpot.experiment.garbage import find_garbage
from stockpot.experiment.jobs.job import ModelJob
from stockpot.experiment.phases import Phases
from stockpot.experiment.plan import Plan
from stockpot.experiment.provenance import Provenance
from stockpot.experiment.reproduction import rebuild
from stockpot.experiment.technique_checks import check_techniques
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.merging.sparse_masks import Mask, nonzero_mask
from stockpot.soups.preparation.recalibration import Recalibration
from stockpot.storage.checkpoints import load_tensors, verify
from stockpot.storage.manifests import made_models, models_of, outputs_exist, write_manifest
from stockpot.storage.models import Failure, Model
from stockpot.tracking.manifests import record_from_manifest
from tasks.models import ModelFailed
from tasks.training import models_of_phase

PARAMS = """
workload: {name: "toy_workload:ToyNet", val_shifts: [], test_shifts: []}
base: {epochs: 2, batch_size: 4}
sweep:
  size: 2
  min_ingredients: 1
  space: {learning_rate: {log_uniform: [0.01, 0.1]}, epochs: 2, batch_size: 4}
soups: [{name: uniform, select: uniform}]
diagnose: []
"""
THREE = "sweep.phases=[{sparsity: 0.25, models: 3, epochs: 1}, {sparsity: 0.5}, {sparsity: 0.75}]"
WEIGHTS = 32  # of the toy net


@pytest.fixture
def make_plan(tmp_path: Path) -> MakePlan:
    """Return what plans the experiment, whose base is made."""
    return after_the_base(tmp_path, PARAMS)


def _finished(plan: Plan) -> Phases:
    phases = Phases(plan)
    while jobs := phases.next_jobs():
        models = [made(job) for job in jobs]
        phases = phases.after(models, made(phases.average_job(models)))
    return phases


def _weights(plan: Plan, model: Model) -> dict[str, torch.Tensor]:
    return load_tensors(verify(plan.project.root, model.checkpoint))


def _flat(mask: Mask) -> torch.Tensor:
    return torch.cat([kept.flatten() for kept in mask.values()])


def _masks(plan: Plan, models: Sequence[Model]) -> list[torch.Tensor]:
    return [_flat(nonzero_mask(_weights(plan, model))) for model in models]


@pytest.mark.parametrize(
    ("phases", "plain"),
    [
        ("[{sparsity: 0.5}]", []),
        ("[{sparsity: 0.5, models: 3, epochs: 1}]", ["sweep.size=3", "sweep.space.epochs=1"]),
    ],
)
def test_one_phase_is_the_sweep_with_that_sparsity(
    make_plan: MakePlan, phases: str, plain: list[str]
) -> None:
    with_phase = make_plan(f"sweep.phases={phases}")
    without = make_plan("sweep.space.sparsity=0.5", *plain)

    assert Phases(with_phase).next_jobs() == []
    assert Phases(with_phase).recorded() == {}
    assert with_phase.ingredient_jobs() == without.ingredient_jobs()
    assert Phases(with_phase).from_average(without.ingredient_jobs()) == without.ingredient_jobs()


def test_a_further_phase_goes_on_from_models_that_are_made(make_plan: MakePlan) -> None:
    short = make_plan("sweep.phases=[{sparsity: 0.5}]")
    longer = make_plan("sweep.phases=[{sparsity: 0.5}, {sparsity: 0.75}]")

    jobs = Phases(longer).next_jobs()

    assert [job.key for job in jobs] == [job.key for job in short.ingredient_jobs()]
    assert [job.name for job in jobs] == ["phase-1-00", "phase-1-01"]


def test_every_average_has_exactly_the_mask_of_its_models_and_masks_shrink(
    make_plan: MakePlan,
) -> None:
    plan = make_plan(THREE)
    phases = _finished(plan)
    ingredients = [made(job) for job in phases.from_average(plan.ingredient_jobs())]

    of_phase = [_masks(plan, (*phase.models, phase.average)) for phase in phases.done]
    of_phase.append(_masks(plan, ingredients))
    assert [len(phase.models) for phase in phases.done] == [3, 2]
    for masks in of_phase:
        assert all(torch.equal(mask, masks[0]) for mask in masks)
    firsts = [masks[0] for masks in of_phase]
    assert [int(mask.sum()) for mask in firsts] == [0.75 * WEIGHTS, 0.5 * WEIGHTS, 0.25 * WEIGHTS]
    assert not any((after & ~before).any() for before, after in pairwise(firsts))


def test_an_average_is_the_mean_with_recalibrated_statistics(make_plan: MakePlan) -> None:
    plan = make_plan("sweep.phases=[{sparsity: 0.5}, {sparsity: 0.75}]")
    [phase] = _finished(plan).done

    states = [_weights(plan, model) for model in phase.models]
    mean = merge_states(states, Recipe("linear", (1.0, 1.0)))
    expected = Recalibration(plan.workload.build(), "cpu")(mean, len(states))

    found = _weights(plan, phase.average)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(expected["1.running_var"], mean["1.running_var"])


def test_each_phase_starts_from_the_average_before_and_draws_again(make_plan: MakePlan) -> None:
    plan = make_plan(THREE, "sweep.space.anchor={choice: [base, none]}", "sweep.size=4")
    phases = Phases(plan)
    first = phases.next_jobs()
    model = made(first[0])
    average = made(phases.average_job([model]))
    phases = phases.after([model], average)

    second = phases.next_jobs()

    base = plan.base().checkpoint
    assert {job.start for job in first} == {base}
    assert {job.start for job in second} == {average.checkpoint}
    assert {job.anchor for job in first} == {None}
    assert {job.hyperparameters.anchor: job.anchor for job in second} == {
        "base": base,
        "none": None,
    }
    runs = [job.hyperparameters for job in (*first, *second, *plan.ingredient_jobs())]
    assert [run.epochs for run in runs] == [1] * 3 + [2] * 8
    assert [run.sparsity for run in runs] == [0.25] * 3 + [0.5] * 4 + [0.75] * 4
    assert len({run.seed for run in runs}) == len({run.learning_rate for run in runs}) == len(runs)


def test_one_model_per_phase_is_iterative_magnitude_pruning(make_plan: MakePlan) -> None:
    plan = make_plan("sweep.phases=[{sparsity: 0.5, models: 1}, {sparsity: 0.75}]")

    [phase] = _finished(plan).done

    single, average = _weights(plan, phase.models[0]), _weights(plan, phase.average)
    assert all(torch.equal(average[name], single[name]) for name in single)


def test_models_of_phases_are_kept_and_are_no_ingredients(make_plan: MakePlan) -> None:
    plan = make_plan(THREE)
    phases = _finished(plan)
    ingredients = [made(job) for job in phases.from_average(plan.ingredient_jobs())]
    manifest: dict[str, Any] = {
        "ingredients": [m.to_json() for m in ingredients],
        **phases.recorded(),
    }
    write_manifest(plan.project.root, "sweep", manifest)

    kept = {path.stem for path in find_garbage(plan.project)}

    before = made_models(manifest)[2:]
    assert [model.name for model in models_of(manifest)] == ["ingredient-00", "ingredient-01"]
    assert [model.name for model in before] == [
        *("phase-1-00", "phase-1-01", "phase-1-02", "phase-1"),
        *("phase-2-00", "phase-2-01", "phase-2"),
    ]
    assert not {model.key for model in before} & kept
    assert outputs_exist(plan.project.root, manifest)
    (plan.project.root / phases.done[0].average.path).unlink()
    assert not outputs_exist(plan.project.root, manifest)


def test_models_and_averages_are_rebuilt_from_their_records(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    plan = make_plan("sweep.phases=[{sparsity: 0.5}, {sparsity: 0.75}]")
    phases = _finished(plan)
    [phase] = phases.done
    start = Phases(plan)
    jobs: list[ModelJob] = [
        start.next_jobs()[0],
        start.average_job(phase.models),
        phases.from_average(plan.ingredient_jobs())[1],
    ]

    for number, job in enumerate(jobs):
        model = made(job)
        record = Provenance.from_text(job.provenance(model).to_text())
        place = tmp_path / f"again-{number}"
        place.mkdir()
        assert rebuild(record, plan.project.root, place, (), "cpu").digest == model.digest


def test_the_record_of_an_average_names_its_models_and_its_density(make_plan: MakePlan) -> None:
    plan = make_plan("sweep.phases=[{sparsity: 0.5}, {sparsity: 0.75}]")
    [phase] = _finished(plan).done
    job = Phases(plan).average_job(phase.models)

    record = record_from_manifest(phase.average.to_json(), keys=job.parents)

    assert record.kind == "phase"
    assert record.inputs == tuple(model.key for model in phase.models)
    assert record.metrics["density"] == 0.5


def test_a_model_that_diverges_is_left_out_of_the_average_and_recorded(make_plan: MakePlan) -> None:
    plan = make_plan("sweep.phases=[{sparsity: 0.5}, {sparsity: 0.75}]")
    jobs = Phases(plan).next_jobs()
    good = made(jobs[0])
    failure = jobs[1].failure("its loss is not finite")

    models, failed = models_of_phase.fn(jobs, [good, ModelFailed(failure)])
    phases = Phases(plan).after(models, good, failed)

    assert (models, failed) == ([good], [failure])
    assert [entry["name"] for entry in phases.failed] == ["phase-1-01"]
    with pytest.raises(StageFailed, match=r"none of 1 models .*\n.*not finite"):
        models_of_phase.fn(jobs[1:], [ModelFailed(failure)])
    with pytest.raises(KeyError):
        models_of_phase.fn(jobs, [good, KeyError("a mistake")])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sweep.phases=[{sparsity: 0.0}]", r"phases.0.sparsity: must be greater than 0, got 0\.0"),
        ("sweep.phases=[{sparsity: 1.0}]", r"phases.0.sparsity: must be less than 1, got 1\.0"),
        (
            "sweep.phases=[{sparsity: 0.7}, {sparsity: 0.5}]",
            r"phases: sparsity must rise from phase to phase, .* got \[0\.7, 0\.5\]",
        ),
        ("sweep.phases=[{sparsity: 0.5}, {sparsity: 0.5}]", "sparsity must rise"),
        ("sweep.phases=[{models: 3}]", "phases.0.sparsity: is required, got nothing"),
        ("sweep.phases=[{sparsity: 0.5, models: 0}]", "phases.0.models: must be greater than"),
        ("sweep.phases=[{sparsity: 0.5, epochs: 0}]", "phases.0.epochs: must be greater than"),
        ("sweep.phases=[{sparsity: 0.5, size: 3}]", "unknown field 'size'"),
    ],
)
def test_phases_that_cannot_be_are_refused(
    make_plan: MakePlan, override: str, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        make_plan(override)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sweep.space.sparsity=0.5"], "sparsity must be 0 in space and list with phases"),
        (
            ["sweep.search=list", "sweep.list=[{sparsity: 0.1}, {}]"],
            "sparsity must be 0 in space and list with phases",
        ),
        (
            ["sweep.search=list", "sweep.list=[{epochs: 1}, {epochs: 2}]", "sweep.size=null"],
            "epochs must be null where list has epochs",
        ),
        (
            ["sweep.space.anchor=soup", "sweep.reference={size: 2}"],
            "reference must be null with phases",
        ),
        (
            ["sweep.search=grid", "sweep.space.learning_rate=0.1"],
            r"phases.0.models must be at most 1, which is all that this grid holds, got 3",
        ),
        (["sweep.min_ingredients=3"], r"min_ingredients must be at most phases.2.models \(2\)"),
        (["sweep.size=0", "sweep.import=models/*"], "size must be at least 1 with phases, got 0"),
    ],
)
def test_a_sweep_that_does_not_fit_its_phases_is_refused(
    make_plan: MakePlan, overrides: list[str], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        make_plan(THREE, *overrides)


def test_techniques_that_fill_zeros_are_refused_before_any_work(make_plan: MakePlan) -> None:
    plan = make_plan(THREE, "sweep.space.adapter=lora")

    with pytest.raises(InputError, match=r"ingredient-00: sparsity: must be 0\.0 with adapter"):
        check_techniques(plan)


def test_a_failure_has_the_form_of_the_manifest(make_plan: MakePlan) -> None:
    plan = make_plan(THREE)
    failure = Failure("phase-1-02", "k", {}, "diverged")
    model = plan.base()

    phases = Phases(plan).after([model], model, [failure]).after([model], model)

    assert phases.failed == [failure.to_json()]
    assert [entry["sparsity"] for entry in phases.recorded()["phases"]] == [0.25, 0.5]
