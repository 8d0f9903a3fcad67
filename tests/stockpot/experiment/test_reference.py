"""A sweep's reference (SALSA): fine-tunings first, their soup, then runs that are held near it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plans_after_base import MakePlan, after_the_base, made

from stockpot.errors import InputError
from stockpot.experiment.anchor_checks import check_anchors
from stockpot.experiment.garbage import find_garbage
from stockpot.experiment.plan import Plan
from stockpot.experiment.provenance import Provenance
from stockpot.experiment.reference import (
    Reference,
    made_reference,
    reference_jobs,
    reference_soup_job,
)
from stockpot.experiment.reproduction import rebuild
from stockpot.ingredients.own_gradients import Training, training_of
from stockpot.storage.checkpoints import load_tensors, verify
from stockpot.storage.manifests import made_models, models_of, outputs_exist, write_manifest
from stockpot.storage.models import Model
from stockpot.tracking.manifests import record_from_manifest

PARAMS = """
workload: {name: "toy_workload:Toy", val_shifts: [], test_shifts: []}
base: {epochs: 2, batch_size: 4}
sweep:
  size: 2
  min_ingredients: 1
  reference: {size: 2}
  space: {learning_rate: 0.05, epochs: 2, batch_size: 4, anchor: soup, anchor_weight: 0.5}
soups: [{name: uniform, select: uniform}]
diagnose: []
"""


@pytest.fixture
def make_plan(tmp_path: Path) -> MakePlan:
    """Return what plans the experiment, whose base is made."""
    return after_the_base(tmp_path, PARAMS)


def _reference(plan: Plan) -> Reference:
    fine_tuned = [made(job) for job in reference_jobs(plan)]
    return made_reference(plan, fine_tuned, made(reference_soup_job(plan, fine_tuned)))


def _weights(plan: Plan, model: Model) -> torch.Tensor:
    return load_tensors(verify(plan.project.root, model.checkpoint))["weight"]


def test_the_reference_is_the_mean_of_plain_runs_from_other_seeds(make_plan: MakePlan) -> None:
    plan = make_plan()
    jobs = reference_jobs(plan)
    reference = _reference(plan)

    seeds = [job.hyperparameters.seed for job in (*jobs, *plan.ingredient_jobs())]
    first, second = (_weights(plan, model) for model in reference.fine_tuned)
    assert [job.name for job in jobs] == ["reference-00", "reference-01"]
    assert {job.hyperparameters.anchor for job in jobs} == {"none"}
    assert len({*seeds}) == 4
    torch.testing.assert_close(_weights(plan, reference.soup), (first + second) / 2)


def test_ingredients_start_from_the_first_run_and_depend_on_the_soup(make_plan: MakePlan) -> None:
    plan = make_plan()
    reference = _reference(plan)

    [job, _] = reference.near(plan.ingredient_jobs())

    assert job.start == reference.fine_tuned[0].checkpoint
    assert job.anchor == reference.soup.checkpoint
    other = replace(job, anchor=reference.fine_tuned[1].checkpoint)
    assert job.key != other.key
    assert not torch.equal(_weights(plan, made(job)), _weights(plan, made(other)))


@pytest.mark.parametrize("start", ["soup", "base"])
def test_the_start_and_the_hyperparameters_of_the_reference_can_be_chosen(
    make_plan: MakePlan, start: str
) -> None:
    plan = make_plan(f"sweep.reference={{size: 3, start: {start}, space: {{epochs: 1}}}}")
    reference = _reference(plan)

    [job, _] = reference.near(plan.ingredient_jobs())

    assert len(reference.fine_tuned) == 3
    assert {job.hyperparameters.epochs for job in reference_jobs(plan)} == {1}
    starts = {"soup": reference.soup, "base": plan.base()}
    assert job.start == starts[start].checkpoint


def test_a_base_anchor_stays_the_base_where_runs_start_elsewhere(make_plan: MakePlan) -> None:
    plan = make_plan("sweep.space.anchor={choice: [base, soup, none]}", "sweep.size=8")
    reference = _reference(plan)

    found = {
        job.hyperparameters.anchor: job.anchor for job in reference.near(plan.ingredient_jobs())
    }

    assert found["base"] == plan.base().checkpoint
    assert found["soup"] == reference.soup.checkpoint
    assert found["none"] is None


def test_the_models_of_a_reference_are_kept_and_are_no_ingredients(make_plan: MakePlan) -> None:
    plan = make_plan()
    reference = _reference(plan)
    ingredients = [made(job) for job in reference.near(plan.ingredient_jobs())]
    manifest = {
        "ingredients": [model.to_json() for model in ingredients],
        "reference": [model.to_json() for model in reference.models],
    }
    write_manifest(plan.project.root, "sweep", manifest)

    kept = [path.stem for path in find_garbage(plan.project)]

    assert not {model.key for model in reference.models} & {*kept}
    assert [model.name for model in models_of(manifest)] == ["ingredient-00", "ingredient-01"]
    assert [model.name for model in made_models(manifest)][2:] == [
        *("reference-00", "reference-01", "reference"),
    ]
    assert outputs_exist(plan.project.root, manifest)
    (plan.project.root / reference.soup.path).unlink()
    assert not outputs_exist(plan.project.root, manifest)


def test_a_run_near_a_soup_is_rebuilt_from_its_record(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan()
    reference = _reference(plan)
    [job, _] = reference.near(plan.ingredient_jobs())
    model = made(job)
    record = Provenance.from_text(job.provenance(model).to_text())
    place = tmp_path / "again"
    place.mkdir()

    rebuilt = rebuild(record, plan.project.root, place, (), "cpu")

    assert rebuilt.digest == model.digest
    training = Training(job.hyperparameters, start=job.start, anchor=job.anchor)
    assert training_of(model.details) == training


def test_the_record_of_the_soup_names_its_fine_tunings(make_plan: MakePlan) -> None:
    plan = make_plan()
    reference = _reference(plan)
    job = reference_soup_job(plan, reference.fine_tuned)

    record = record_from_manifest(reference.soup.to_json(), keys=job.parents)

    assert record.kind == "reference"
    assert record.inputs == tuple(model.key for model in reference.fine_tuned)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sweep.reference=null", "reference is required where anchor is soup, got nothing"),
        ("sweep.space.anchor=base", r"reference must be the anchor .* got anchors \['base'\]"),
        ("sweep.reference={space: {anchor: soup}}", "anchor must be none or base"),
        ("sweep.reference={size: 1}", "reference.size: must be greater than or equal to 2"),
    ],
)
def test_a_reference_that_nothing_can_use_is_refused(
    make_plan: MakePlan, override: str, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        make_plan(override)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sweep.space.anchor_loss={choice: [kl, dpo]}", "sweep.space: anchor_loss: dpo needs"),
        ("sweep.space.adapter=lora", None),
        (
            "sweep.reference={space: {start_l2: 1, adapter: lora}}",
            "sweep.reference.space: anchor_l",
        ),
    ],
)
def test_anchors_that_fit_no_run_are_refused_before_any_work(
    make_plan: MakePlan, override: str, expected: str | None
) -> None:
    plan = make_plan(override)
    workload = plan.workload.build()
    if expected is None:
        check_anchors(plan.experiment, workload)
        return
    with pytest.raises(InputError, match=expected):
        check_anchors(plan.experiment, workload)


def test_a_workload_without_a_split_of_reference_inputs_is_refused(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan("sweep.space.anchor_data=reference")
    workload = plan.workload.build()

    with pytest.raises(InputError, match=r"reference is a split .* has_reference is True, got"):
        check_anchors(plan.experiment, workload)
    monkeypatch.setattr(type(workload), "has_reference", True, raising=False)
    check_anchors(plan.experiment, workload)
