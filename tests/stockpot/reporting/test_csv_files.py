from __future__ import annotations

from pathlib import Path

import yaml
from projects import REPOSITORY

from stockpot.reporting.csv_files import write_csv_files, write_finding_csv_files
from stockpot.reporting.results import Results


def test_files_have_the_names_that_dvc_plots_expects(tmp_path: Path, results: Results) -> None:
    paths = write_csv_files(tmp_path / "plots", results)

    names = [
        *("id_vs_shift.csv", "shifts.csv", "greedy.csv", "tuning.csv", "pareto.csv"),
        *("random_soups.csv", "wise_ft.csv", "reliability.csv"),
    ]
    assert paths == [tmp_path / "plots" / name for name in names]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(names)


def test_id_vs_shift_has_every_model(tmp_path: Path, results: Results) -> None:
    write_csv_files(tmp_path, results)

    assert (tmp_path / "id_vs_shift.csv").read_text() == (
        "model,kind,test,shift,metric\n"
        "base,base,0.89,0.6,accuracy\n"
        "ingredient-00,ingredient,0.93,0.76,accuracy\n"
        "ingredient-01,ingredient,0.95,0.8,accuracy\n"
        "uniform,soup,0.93,0.77,accuracy\n"
        "greedy,soup,0.951,0.841,accuracy\n"
        "tuned,tuned,0.955,0.805,accuracy\n"
        "both,tuned,0.945,0.85,accuracy\n"
        "logit ensemble,ensemble,0.955,0.85,accuracy\n"
    )


def test_shifts_have_intervals_of_the_main_models(tmp_path: Path, results: Results) -> None:
    results.evaluation["models"] = results.evaluation["models"][:3]
    write_csv_files(tmp_path, results)

    lines = (tmp_path / "shifts.csv").read_text().splitlines()

    assert lines[0] == "model,kind,shift,score,low,high,metric"
    assert [line.rsplit(",", 4)[0] for line in lines[1:]] == [
        "base,base,noise",
        "base,base,occlude",
        "ingredient-01,ingredient,noise",
        "ingredient-01,ingredient,occlude",
    ]
    assert [round(float(number), 6) for number in lines[1].split(",")[3:6]] == [0.7, 0.68, 0.72]


def test_greedy_has_one_row_per_step(tmp_path: Path, results: Results) -> None:
    write_csv_files(tmp_path, results)

    assert (tmp_path / "greedy.csv").read_text() == (
        "soup,step,ingredient,val,at_most,accepted,metric\n"
        "greedy,1,ingredient-01,0.96,,true,accuracy\n"
        "greedy,2,ingredient-00,0.955,,false,accuracy\n"
    )


def test_tuning_names_values_by_objective_and_follows_the_first(
    tmp_path: Path, results: Results
) -> None:
    write_csv_files(tmp_path, results)

    assert (tmp_path / "tuning.csv").read_text() == (
        "study,trial,source,val,val_shift,best,metric\n"
        "tuned,0,uniform,0.955,,0.955,accuracy\n"
        "tuned,1,sampler,0.97,,0.97,accuracy\n"
        "tuned,2,sampler,0.4,,0.97,accuracy\n"
        "both,0,best single,0.96,0.8,0.8,accuracy\n"
        "both,1,sampler,0.9,0.7,0.8,accuracy\n"
        "both,2,sampler,0.95,0.85,0.85,accuracy\n"
    )


def test_pareto_has_studies_with_two_objectives_alone(tmp_path: Path, results: Results) -> None:
    write_csv_files(tmp_path, results)

    assert (tmp_path / "pareto.csv").read_text() == (
        "study,trial,val,val_shift,on_front,metric\n"
        "both,0,0.96,0.8,true,accuracy\n"
        "both,1,0.9,0.7,false,accuracy\n"
        "both,2,0.95,0.85,true,accuracy\n"
    )


def test_a_plain_run_has_files_with_headers(tmp_path: Path, plain_results: Results) -> None:
    write_csv_files(tmp_path, plain_results)

    assert (
        tmp_path / "greedy.csv"
    ).read_text() == "soup,step,ingredient,val,at_most,accepted,metric\n"
    assert (tmp_path / "tuning.csv").read_text() == "study,trial,source,val,val_shift,best,metric\n"
    assert "uniform,soup,0.93,,accuracy\n" in (tmp_path / "id_vs_shift.csv").read_text()


def test_a_name_with_a_comma_is_quoted(tmp_path: Path, results: Results) -> None:
    results.evaluation["models"][0]["name"] = 'a,"b"'

    write_csv_files(tmp_path, results)

    assert '"a,""b""",base,0.89,0.6,accuracy\n' in (tmp_path / "id_vs_shift.csv").read_text()


def test_headers_are_those_of_every_workload_and_a_column_names_the_metric(
    tmp_path: Path, judged: Results
) -> None:
    judged.evaluation["metric"] = "f1_macro"

    write_csv_files(tmp_path, judged)

    lines = {path.stem: path.read_text().splitlines() for path in tmp_path.iterdir()}
    assert {name: text[0] for name, text in lines.items()} == {
        "id_vs_shift": "model,kind,test,shift,metric",
        "shifts": "model,kind,shift,score,low,high,metric",
        "greedy": "soup,step,ingredient,val,at_most,accepted,metric",
        "tuning": "study,trial,source,val,val_shift,best,metric",
        "pareto": "study,trial,val,val_shift,on_front,metric",
        "random_soups": "model,place,pool,size,mean,sd,improvement_percent,metric",
        "wise_ft": "model,alpha,val,test,shift,metric",
        "reliability": "model,scaled,confidence,accuracy,count",
    }
    assert lines["id_vs_shift"][1].endswith(",f1_macro")


def test_dvc_plots_columns_that_are_in_the_files(tmp_path: Path, judged: Results) -> None:
    folders = {"results/plots": tmp_path / "plots", "results/diagnostics": tmp_path / "found"}
    write_csv_files(folders["results/plots"], judged)
    write_finding_csv_files(folders["results/diagnostics"], {})

    drawn = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["plots"]

    for plot, look in (pair for entry in drawn for pair in entry.items()):
        path, columns = next(iter(look["y"].items())) if plot == "wise_ft" else (plot, [look["y"]])
        folder, _, name = path.rpartition("/")
        header = (folders[folder] / name).read_text().splitlines()[0].split(",")
        assert {look["x"], *columns} <= {*header}, plot
        assert (REPOSITORY / ".dvc" / "plots" / f"{look['template']}.json").is_file()


def test_judged_numbers_are_in_their_files(tmp_path: Path, judged: Results) -> None:
    write_csv_files(tmp_path, judged)

    lines = {path.stem: path.read_text().splitlines() for path in tmp_path.iterdir()}
    rows = judged.evaluation["random_soups"]["rows"]
    assert (
        lines["random_soups"][1] == f"uniform,val,matched,16,{rows[0]['mean']},0.004,31.0,accuracy"
    )
    assert lines["wise_ft"][1] == "uniform,0.0,0.94,0.94,0.72,accuracy"
    assert lines["reliability"][1] == f"ingredient-01,false,0.35,{0.35 - 0.06},10"


def test_findings_that_one_plots_have_files(tmp_path: Path) -> None:
    curve = {"mean": [0.9, 0.95], "low": [0.8, 0.9], "high": [0.95, 0.97]}
    row = {
        "ingredient": "ingredient-00",
        "shapley": {"val": 0.01},
        "error": {"val": 0.002},
        "change": {"val": -0.005},
    }
    findings = {
        "barriers": {"data": {"anything": 1}},
        "soup_size": {"data": {"metric": "accuracy", "curves": {"val": curve}}},
        "contributions": {
            "data": {
                "metric": "accuracy",
                "places": ["val"],
                "groups": [{"name": "all", "rows": [row]}],
            }
        },
    }

    paths = write_finding_csv_files(tmp_path, findings)

    assert [path.read_text() for path in paths] == [
        "place,size,score,low,high,metric\nval,1,0.9,0.8,0.95,accuracy\nval,2,0.95,0.9,0.97,accuracy\n",
        "soup,ingredient,place,shapley,error,without_it,metric\n"
        "all,ingredient-00,val,0.01,0.002,-0.005,accuracy\n",
    ]


def test_a_finding_with_nothing_to_see_has_a_file_with_a_header(tmp_path: Path) -> None:
    paths = write_finding_csv_files(tmp_path, {"soup_size": {"data": {}}})

    assert [len(path.read_text().splitlines()) for path in paths] == [1, 1]
