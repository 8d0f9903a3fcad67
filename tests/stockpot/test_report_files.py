from __future__ import annotations

import csv
import json

import pytest

from stockpot.errors import InputError
from stockpot.manifests import manifest_path, read_manifest
from stockpot.planning import Plan
from stockpot.report_files import load_results, table_columns, write_plot_files, write_report_file

MAIN_MODELS = ["base", "best ingredient", "uniform", "greedy", "top 2", "tuned", "pareto"]


def test_metrics_are_those_of_the_main_models(plan: Plan) -> None:
    root = plan.project.root
    evaluation = read_manifest(root, "evaluate")

    path = write_plot_files(root, evaluation)[0]

    metrics = json.loads(path.read_text())
    judged = {model["name"]: model["metrics"] for model in evaluation["models"]}
    assert path == root / "results" / "metrics.json"
    ensembles = {f"{kind} ensemble" for kind in ("logit", "probability", "median", "stacked")}
    assert metrics.keys() == {*MAIN_MODELS, *ensembles}
    assert metrics["best ingredient"] == judged[evaluation["best_ingredient"]]
    assert metrics["greedy"] == judged["greedy"]


def test_every_plot_has_its_numbers_in_a_file(plan: Plan) -> None:
    root = plan.project.root

    _, *files = write_plot_files(root, read_manifest(root, "evaluate"))

    assert {path.relative_to(root).as_posix() for path in files} == {
        f"results/plots/{name}.csv"
        for name in ("id_vs_shift", "shifts", "greedy", "tuning", "pareto")
    }
    assert all(len(list(csv.reader(path.read_text().splitlines()))) > 1 for path in files)


def test_files_are_the_same_for_the_same_results(plan: Plan) -> None:
    root = plan.project.root
    evaluation = read_manifest(root, "evaluate")
    before = {path: path.read_bytes() for path in write_plot_files(root, evaluation)}

    again = write_plot_files(root, evaluation)

    assert {path: path.read_bytes() for path in again} == before


def test_the_report_shows_every_main_model(plan: Plan) -> None:
    path = write_report_file(plan)

    html = path.read_text()
    assert path == plan.project.root / "results" / "report.html"
    assert all(name in html for name in MAIN_MODELS)
    assert "dvc repro" in html


def test_the_table_is_in_percent(finished: Plan) -> None:
    evaluation = read_manifest(finished.project.root, "evaluate")
    [greedy] = [model["metrics"] for model in evaluation["models"] if model["name"] == "greedy"]

    columns = table_columns(evaluation)

    row = {name: values[columns["model"].index("greedy")] for name, values in columns.items()}
    assert row == {
        "model": "greedy",
        "val": round(100 * greedy["val/accuracy"], 2),
        "test": round(100 * greedy["test/accuracy"], 2),
        "mean shift": round(100 * greedy["shift/mean/accuracy"], 2),
        "shift, minus best": round(100 * greedy["difference/shift/mean/accuracy"], 2),
        "from": round(100 * greedy["difference/shift/mean/accuracy_low"], 2),
        "to": round(100 * greedy["difference/shift/mean/accuracy_high"], 2),
        "models a prediction": 1,
    }


def test_the_table_leaves_out_what_is_not_compared(finished: Plan) -> None:
    columns = table_columns(read_manifest(finished.project.root, "evaluate"))

    rows = zip(columns["model"], columns["shift, minus best"], strict=True)
    assert [name for name, value in rows if value is None] == ["best ingredient", "mean ingredient"]


def test_the_ensemble_costs_as_many_models_as_it_has(finished: Plan) -> None:
    columns = table_columns(read_manifest(finished.project.root, "evaluate"))

    costs = dict(zip(columns["model"], columns["models a prediction"], strict=True))
    assert costs["logit ensemble"] == 4
    assert costs["greedy"] == 1


@pytest.mark.parametrize("stage", ["base", "sweep", "soups", "tune", "evaluate"])
def test_results_need_every_stage(plan: Plan, stage: str) -> None:
    manifest_path(plan.project.root, stage).unlink()

    with pytest.raises(InputError, match=f"run `stockpot {stage}` first"):
        load_results(plan.project.root)
