from __future__ import annotations

import csv
import json

import pytest

from stockpot.errors import InputError
from stockpot.experiment.jobs.judging import measured_cost_path
from stockpot.experiment.plan import Plan
from stockpot.experiment.report_files import (
    load_results,
    table_columns,
    write_plot_files,
    write_report_files,
)
from stockpot.reporting.figures import ReportFigures
from stockpot.storage.atomic_files import write_text
from stockpot.storage.manifests import manifest_path, read_manifest

NOTHING_DRAWN = ReportFigures((), ())
MAIN_MODELS = ["base", "best ingredient", "uniform", "greedy", "top 2", "tuned", "pareto"]


def test_metrics_are_the_few_that_one_compares(plan: Plan) -> None:
    root = plan.project.root
    evaluation = read_manifest(root, "evaluate")

    path = write_plot_files(root, evaluation)[0]

    metrics = json.loads(path.read_text())
    judged = {model["name"]: model["metrics"] for model in evaluation["models"]}
    scores = ("val/accuracy", "test/accuracy", "shift/mean/accuracy")
    assert path == root / "results" / "metrics.json"
    assert metrics.keys() == {"best soup", *MAIN_MODELS} - {"base"}
    assert metrics["greedy"] == {name: judged["greedy"][name] for name in scores}
    assert metrics["best soup"].keys() == {
        *scores,
        *(f"difference/{name}" for name in scores[1:]),
        *("test/nll", "test/ece"),
    }
    assert metrics["best soup"]["val/accuracy"] == max(m["val/accuracy"] for m in metrics.values())


def test_every_plot_has_its_numbers_in_a_file(plan: Plan) -> None:
    root = plan.project.root

    _, *files = write_plot_files(root, read_manifest(root, "evaluate"))

    assert {path.relative_to(root).as_posix() for path in files} == {
        f"results/plots/{name}.csv"
        for name in (
            *("id_vs_shift", "shifts", "greedy", "tuning", "pareto"),
            *("random_soups", "wise_ft", "reliability"),
        )
    }
    assert all(len(list(csv.reader(path.read_text().splitlines()))) > 1 for path in files)


def test_files_are_the_same_for_the_same_results(plan: Plan) -> None:
    root = plan.project.root
    evaluation = read_manifest(root, "evaluate")
    before = {path: path.read_bytes() for path in write_plot_files(root, evaluation)}

    again = write_plot_files(root, evaluation)

    assert {path: path.read_bytes() for path in again} == before


def test_the_report_shows_every_main_model(plan: Plan) -> None:
    path, _ = write_report_files(plan, NOTHING_DRAWN, {})

    html = path.read_text()
    assert path == plan.project.root / "results" / "report.html"
    assert all(name in html for name in MAIN_MODELS)
    assert "dvc repro" in html


def test_the_report_names_runs_and_the_measured_time(plan: Plan) -> None:
    write_text(measured_cost_path(plan.project.root), json.dumps({"latency_ms": 1.25}))

    path, _ = write_report_files(plan, NOTHING_DRAWN, {"greedy": "a1b2c3"})

    html = path.read_text()

    assert "<td>a1b2c3</td>" in html
    assert "1.25 ms" in html


def test_the_model_card_is_of_the_best_soup(plan: Plan) -> None:
    _, path = write_report_files(plan, NOTHING_DRAWN, {})

    soup = load_results(plan.project.root).best_soup
    assert soup is not None
    assert path == plan.project.root / "results" / "model_card.md"
    assert soup["digest"] in path.read_text()


def test_the_table_is_in_percent(finished: Plan) -> None:
    evaluation = read_manifest(finished.project.root, "evaluate")
    [greedy] = [model["metrics"] for model in evaluation["models"] if model["name"] == "greedy"]

    columns = table_columns(evaluation)

    [tested] = [
        row
        for row in evaluation["comparisons"]
        if (row["model"], row["place"]) == ("greedy", "shift")
    ]
    row = {name: values[columns["model"].index("greedy")] for name, values in columns.items()}
    assert row == {
        "model": "greedy",
        "val": round(100 * greedy["val/accuracy"], 2),
        "test": round(100 * greedy["test/accuracy"], 2),
        "mean shift": round(100 * greedy["shift/mean/accuracy"], 2),
        "shift, minus best": round(100 * tested["difference"], 2),
        "from": round(100 * tested["low"], 2),
        "to": round(100 * tested["high"], 2),
        "p, Holm": tested["p_holm"],
        "models a prediction": 1,
    }


def test_the_table_leaves_out_differences_of_models_that_are_not_compared(finished: Plan) -> None:
    columns = table_columns(read_manifest(finished.project.root, "evaluate"))

    evaluation = read_manifest(finished.project.root, "evaluate")
    rows = zip(columns["model"], columns["shift, minus best"], strict=True)
    compared = [name for name, value in rows if value is not None]
    assert compared == [
        model["name"]
        for model in evaluation["models"]
        if model["kind"] in ("soup", "tuned", "ensemble", "repeats")
    ]


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


def test_what_a_soup_has_over_random_ones_is_a_metric_of_it(finished: Plan) -> None:
    evaluation = read_manifest(finished.project.root, "evaluate")
    rows = [row for row in evaluation["random_soups"]["rows"] if row["pool"] == "matched"]

    of_models = {model["name"]: model["metrics"] for model in evaluation["models"]}

    assert {row["place"] for row in rows} == {"val", "test", "shift"}
    assert all(of_models[row["model"]][f"ri/{row['place']}"] == row["ri"] for row in rows)
