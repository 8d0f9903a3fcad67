from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stockpot.errors import InputError
from stockpot.experiment.comparison import FinishedRun, compare_runs, run_of_folder, run_of_record
from stockpot.experiment.plan import Plan
from stockpot.judging.test_sets import test_sets as sets_of_test
from stockpot.scoring.predictions import load_outputs, load_targets
from stockpot.storage.manifests import manifest_path, read_manifest
from stockpot.tracking.recorded import PipelineRun


def change_evaluation(root: Path, **changes: object) -> None:
    evaluation = read_manifest(root, "evaluate")
    manifest_path(root, "evaluate").write_text(json.dumps(evaluation | changes))


def prefer(root: Path, soup: str) -> None:
    """Make a soup the best one on val."""
    change_evaluation(root, best_soup=soup)


@pytest.fixture
def other_root(project_root: Path, tmp_path: Path) -> Path:
    """A copy with another best soup, made with another k."""
    root = tmp_path / "other"
    shutil.copytree(project_root, root)
    prefer(project_root, "uniform")
    prefer(root, "top 2")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("k: 2", "k: 3"))
    return root


def recorded(plan: Plan, **changes: object) -> PipelineRun:
    """Return the record of an experiment in MLflow."""
    results = plan.project.results
    texts = {p.relative_to(results).as_posix(): p.read_text() for p in results.rglob("*.json")}
    params = {"workload.name": "digits", "soups.0.name": "uniform", "soups.0.select": "uniform"}
    digests = {name: plan.workload.set_digest(name) for name in sets_of_test(plan.workload)}
    fields = {"params": params, "datasets": digests, "results": texts} | changes
    return PipelineRun(run_id="ab" * 16, experiment_id="1", name="digits seed 0", **fields)


def test_runs_on_the_same_examples_are_tested_example_by_example(
    plan: Plan, project_root: Path, other_root: Path
) -> None:
    compared = compare_runs([run_of_folder(project_root), run_of_folder(other_root)])

    digests = [run.best["digest"] for run in compared.runs]
    targets = load_targets(project_root, plan.workload, "test")
    right = [
        (load_outputs(project_root, plan.workload, digest, "test").argmax(1) == targets).numpy()
        for digest in digests
    ]
    [test] = [row for row in compared.tested if row["place"] == "test"]
    assert [run.best["name"] for run in compared.runs] == ["uniform", "top 2"]
    assert (test["model"], test["reference"]) == ("other", "project")
    assert test["won"] == int((right[1] & ~right[0]).sum())
    assert test["lost"] == int((right[0] & ~right[1]).sum())
    assert test["difference"] == pytest.approx(float(np.mean(right[1]) - np.mean(right[0])))
    assert {row["place"] for row in compared.tested} == {"test", "shift"}
    assert compared.untested == {}


def test_differing_settings_are_matched_by_the_names_of_recipes(
    project_root: Path, other_root: Path
) -> None:
    first, second = (run_of_folder(root).run.settings for root in (project_root, other_root))

    assert {name for name in first | second if first.get(name) != second.get(name)} == {
        "soups.top 2.k"
    }


def test_runs_without_cached_predictions_are_not_tested(
    project_root: Path, other_root: Path
) -> None:
    shutil.rmtree(other_root / ".stockpot" / "predictions")

    compared = compare_runs([run_of_folder(project_root), run_of_folder(other_root)])

    assert compared.tested == []
    assert {*compared.untested.values()} == {
        f"predictions of other by the current code are not cached in {other_root}; "
        "run `stockpot evaluate` there"
    }
    assert compared.untested.keys() == {("other", "test"), ("other", "shift")}


def test_runs_on_other_examples_are_not_tested(project_root: Path, other_root: Path) -> None:
    params = other_root / "params.yaml"
    params.write_text("seed: 1\n" + params.read_text())

    compared = compare_runs([run_of_folder(project_root), run_of_folder(other_root)])

    assert compared.tested == []
    assert {*compared.untested.values()} == {"they were judged on different test examples"}


def test_other_test_shifts_leave_the_test_split_comparable(
    project_root: Path, other_root: Path
) -> None:
    change_evaluation(other_root, test_shifts=["noise"])

    compared = compare_runs([run_of_folder(project_root), run_of_folder(other_root)])

    assert [row["place"] for row in compared.tested] == ["test"]
    assert compared.untested == {("other", "shift"): "the two have different test shifts"}


def test_a_recorded_run_is_tested_by_the_predictions_of_its_project(plan: Plan) -> None:
    folder, record = run_of_folder(plan.project.root), run_of_record(recorded(plan), plan)

    compared = compare_runs([folder, record])

    assert [run.label for run in compared.runs] == ["project", "digits seed 0 (abababab)"]
    assert [row["difference"] for row in compared.tested] == [0, 0]
    assert compared.runs[1].settings["soups.uniform.select"] == "uniform"


def test_a_recorded_run_on_examples_that_are_no_longer_made_is_not_tested(plan: Plan) -> None:
    old = dict.fromkeys(sets_of_test(plan.workload), "0123")
    record = run_of_record(recorded(plan, datasets=old), plan)

    compared = compare_runs([record, record])

    assert [run.label for run in compared.runs][1].endswith("(abababab), 2")
    assert compared.tested == []
    root = plan.project.root
    assert {*compared.untested.values()} == {
        f"params.yaml of {root} now describes other test examples"
    }


def test_a_recorded_run_without_its_results_is_refused(plan: Plan) -> None:
    with pytest.raises(InputError, match=r"must have results/base\.json among its artifacts"):
        run_of_record(recorded(plan, results={}), plan)


def test_a_comparison_needs_two_runs(finished: Plan) -> None:
    with pytest.raises(InputError, match="needs two runs or more, got 1"):
        compare_runs([run_of_folder(finished.project.root)])


def test_runs_of_another_metric_are_refused(project_root: Path, other_root: Path) -> None:
    change_evaluation(other_root, metric="f1_macro")

    with pytest.raises(InputError) as caught:
        compare_runs([run_of_folder(project_root), run_of_folder(other_root)])

    assert str(caught.value) == (
        "compare: runs must be of one metric, got 'accuracy' (project) and 'f1_macro' (other)"
    )


def test_runs_of_another_workload_are_refused(plan: Plan) -> None:
    params = {"workload.name": "cifar"}
    runs: list[FinishedRun] = [
        run_of_folder(plan.project.root),
        run_of_record(recorded(plan, params=params), plan),
    ]

    with pytest.raises(InputError, match=r"one workload, got 'digits' \(project\) and 'cifar'"):
        compare_runs(runs)


def test_the_error_for_an_unfinished_folder_names_the_missing_stage(project_root: Path) -> None:
    manifest_path(project_root, "evaluate").unlink()

    with pytest.raises(InputError, match=rf"^run {project_root}: .*run `stockpot evaluate` first"):
        run_of_folder(project_root)
