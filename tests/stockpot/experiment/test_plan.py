from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stockpot.errors import InputError
from stockpot.experiment.plan import Plan
from stockpot.experiment.stages import STAGES
from stockpot.experiment.state import (
    inputs_key,
    is_done,
    require_before,
    stage_modules,
)
from stockpot.storage.manifests import read_manifest, write_manifest

MakePlan = Callable[..., Plan]


def _stale(plan: Plan) -> set[str]:
    return {stage for stage in STAGES if not is_done(plan, stage)}


def test_all_stages_of_a_finished_experiment_are_done(plan: Plan) -> None:
    assert _stale(plan) == set()


@pytest.mark.parametrize(
    ("override", "stale"),
    [
        ("seed=1", set(STAGES)),
        ("workload.test_shifts=[noise]", {"evaluate", "report"}),
        ("base.epochs=5", {"base", "report"}),
        ("sweep.size=5", {"sweep", "report"}),
        ("sweep.precheck.on_fail=warn", {"sweep", "report"}),
        ("sweep.space.epochs=2", {"sweep", "report"}),
        ("soups.0.select=greedy", {"soups", "report"}),
        ("tune.0.trials=9", {"tune", "report"}),
        ("diagnose=[barriers]", {"diagnose", "report"}),
        ("evaluate.confidence=0.9", {"evaluate", "report"}),
        ("track.experiment=other", {"report"}),
        ("run.threads=2", {"base", "sweep", "report"}),
        ("run.workers=1", set()),
        ("run.devices=[cpu]", set()),
        ("sweep.retries=3", set()),
        ("sweep.timeout_seconds=5", set()),
        ("sweep.save_every_seconds=5", set()),
    ],
)
def test_a_change_makes_those_stages_stale_that_depend_on_it(
    make_plan: MakePlan, override: str, stale: set[str]
) -> None:
    assert _stale(make_plan(override)) == stale


@pytest.mark.parametrize(
    ("edited", "stale"),
    [
        ("ingredients.finetuning.loop", {"base", "sweep"}),
        ("ingredients.finetuning.sam", {"base", "sweep"}),
        ("ingredients.points", {"sweep"}),
        ("diagnostics.precheck.tensors", {"sweep"}),
        ("merging.engine", {"sweep", "soups", "tune", "diagnose", "evaluate"}),
        ("soups.tuning.study", {"tune"}),
        ("soups.selection.greedy", {"soups", "tune"}),
        ("scoring.val_scores", {"base", "sweep", "soups", "tune", "diagnose", "evaluate"}),
        ("judging.judge", {"evaluate"}),
        ("reporting.plots.shifts", {"report"}),
        ("reporting.csv_files", {"diagnose", "evaluate"}),
        ("workloads.digits", {"base", "sweep", "soups", "tune", "diagnose", "evaluate"}),
    ],
)
def test_edited_code_makes_those_stages_stale_whose_results_it_makes(
    plan: Plan, edit: Callable[[str], None], edited: str, stale: set[str]
) -> None:
    edit(f"stockpot.{edited}")

    assert _stale(plan) - {"report"} == stale - {"report"}
    assert "report" not in stale or "report" in _stale(plan)


def test_edited_code_that_makes_no_result_here_makes_no_stage_stale(
    plan: Plan, edit: Callable[..., None]
) -> None:
    edit(
        "stockpot.diagnostics.barriers",  # no diagnostic is asked for
        "stockpot.workloads.causal_lm",
        "stockpot.merging.methods.della",
        "stockpot.merging.registry",
        "stockpot.diagnostics.registry",
        "stockpot.tracking.tracker",
        "stockpot.storage.locks",
        "stockpot.errors",
    )

    assert _stale(plan) - {"report"} == set()


def test_a_diagnostic_that_is_asked_for_is_code_of_its_stage(make_plan: MakePlan) -> None:
    modules = stage_modules(make_plan("diagnose=[barriers]"), "diagnose")

    assert "stockpot.diagnostics.barriers" in modules
    assert "stockpot.diagnostics.similarity" not in modules


@pytest.mark.parametrize(
    ("stage", "listed"), [("base", "base"), ("sweep", "ingredients"), ("tune", "tuned")]
)
def test_a_stage_whose_weights_are_gone_is_not_done(plan: Plan, stage: str, listed: str) -> None:
    made = read_manifest(plan.project.root, stage)[listed]
    model = made if stage == "base" else made[-1]

    (plan.project.root / model["path"]).unlink()

    assert _stale(plan) == {stage}


def test_a_stage_without_a_manifest_is_not_done_nor_what_reads_it(plan: Plan) -> None:
    (plan.project.results / "sweep.json").unlink()

    assert _stale(plan) == {"sweep", "soups", "tune", "diagnose", "evaluate", "report"}


def test_a_changed_upstream_result_makes_a_stage_stale(plan: Plan) -> None:
    root = plan.project.root
    sweep = read_manifest(root, "sweep")
    sweep["ingredients"].pop()

    write_manifest(root, "sweep", sweep)

    assert _stale(plan) == {"soups", "tune", "diagnose", "evaluate", "report"}


def test_how_an_upstream_result_came_to_be_does_not_matter(plan: Plan) -> None:
    root = plan.project.root
    inputs_before = inputs_key(plan, "soups")

    write_manifest(root, "sweep", read_manifest(root, "sweep") | {"inputs": "other"})

    assert inputs_key(plan, "soups") == inputs_before
    assert _stale(plan) == {"sweep"}


@pytest.mark.parametrize(("final", "stale"), [(True, set()), (False, {"sweep"})])
def test_only_a_failure_that_another_try_may_mend_is_tried_again(
    plan: Plan, final: bool, stale: set[str]
) -> None:
    root = plan.project.root
    failure = plan.base_job().failure("worker lost", final=final).to_json()

    write_manifest(root, "sweep", read_manifest(root, "sweep") | {"failed": [failure]})

    assert {stage for stage in ("base", "sweep") if not is_done(plan, stage)} == stale


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_may_start_when_all_before_it_is_done(plan: Plan, stage: str) -> None:
    require_before(plan, stage)


@pytest.mark.parametrize(
    ("override", "stage", "missing"),
    [
        ("base.epochs=5", "sweep", "base"),
        ("base.epochs=5", "soups", "base"),
        ("base.epochs=5", "tune", "base"),
        ("sweep.size=5", "tune", "sweep"),
        ("soups.0.select=greedy", "evaluate", "soups"),
        ("evaluate.confidence=0.9", "report", "evaluate"),
    ],
)
def test_a_stage_does_not_start_on_results_of_other_params(
    make_plan: MakePlan, override: str, stage: str, missing: str
) -> None:
    with pytest.raises(InputError) as caught:
        require_before(make_plan(override), stage)

    assert str(caught.value) == (
        f"stage {stage!r} needs {missing!r}, which is not up to date; "
        f"run `stockpot {missing}` first, or `stockpot run` for all"
    )


def test_inputs_of_a_stage_need_the_stages_before_it(plan: Plan) -> None:
    (plan.project.results / "base.json").unlink()

    with pytest.raises(InputError, match=r"results/base\.json: missing"):
        inputs_key(plan, "sweep")


def test_changing_only_the_studies_leaves_all_else_as_it_is(make_plan: MakePlan) -> None:
    changed = make_plan("tune=[{name: other, trials: 5}]")

    kept: dict[str, Any] = {stage: is_done(changed, stage) for stage in ("base", "sweep", "soups")}

    assert kept == {"base": True, "sweep": True, "soups": True}
    assert not is_done(changed, "tune")
