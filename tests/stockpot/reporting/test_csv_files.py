from __future__ import annotations

from pathlib import Path

from stockpot.reporting import Results, write_csv_files, write_finding_csv_files


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
        "model,kind,test_accuracy,shift_accuracy\n"
        "base,base,0.89,0.6\n"
        "ingredient-00,ingredient,0.93,0.76\n"
        "ingredient-01,ingredient,0.95,0.8\n"
        "uniform,soup,0.93,0.77\n"
        "greedy,soup,0.951,0.841\n"
        "tuned,tuned,0.955,0.805\n"
        "both,tuned,0.945,0.85\n"
        "logit ensemble,ensemble,0.955,0.85\n"
    )


def test_shifts_have_intervals(tmp_path: Path, results: Results) -> None:
    results.evaluation["models"] = results.evaluation["models"][:3]
    write_csv_files(tmp_path, results)

    lines = (tmp_path / "shifts.csv").read_text().splitlines()

    assert lines[0] == "model,kind,shift,accuracy,low,high"
    assert [line.rsplit(",", 3)[0] for line in lines[1:]] == [
        "base,base,noise",
        "base,base,occlude",
        "ingredient-00,ingredient,noise",
        "ingredient-00,ingredient,occlude",
        "ingredient-01,ingredient,noise",
        "ingredient-01,ingredient,occlude",
    ]
    assert [round(float(number), 6) for number in lines[1].split(",")[3:]] == [0.7, 0.68, 0.72]


def test_greedy_has_a_row_a_step(tmp_path: Path, results: Results) -> None:
    write_csv_files(tmp_path, results)

    assert (tmp_path / "greedy.csv").read_text() == (
        "soup,step,ingredient,val_accuracy,accepted\n"
        "greedy,1,ingredient-01,0.96,true\n"
        "greedy,2,ingredient-00,0.955,false\n"
    )


def test_tuning_names_values_by_objective_and_follows_the_first(
    tmp_path: Path, results: Results
) -> None:
    write_csv_files(tmp_path, results)

    assert (tmp_path / "tuning.csv").read_text() == (
        "study,trial,source,val_accuracy,val_shift_accuracy,best\n"
        "tuned,0,uniform,0.955,,0.955\n"
        "tuned,1,sampler,0.97,,0.97\n"
        "tuned,2,sampler,0.4,,0.97\n"
        "both,0,best single,0.96,0.8,0.8\n"
        "both,1,sampler,0.9,0.7,0.8\n"
        "both,2,sampler,0.95,0.85,0.85\n"
    )


def test_pareto_has_studies_with_two_objectives_alone(tmp_path: Path, results: Results) -> None:
    write_csv_files(tmp_path, results)

    assert (tmp_path / "pareto.csv").read_text() == (
        "study,trial,val_accuracy,val_shift_accuracy,on_front\n"
        "both,0,0.96,0.8,true\n"
        "both,1,0.9,0.7,false\n"
        "both,2,0.95,0.85,true\n"
    )


def test_a_plain_run_has_files_with_headers(tmp_path: Path, plain_results: Results) -> None:
    write_csv_files(tmp_path, plain_results)

    assert (tmp_path / "greedy.csv").read_text() == "soup,step,ingredient,val_accuracy,accepted\n"
    assert (
        tmp_path / "tuning.csv"
    ).read_text() == "study,trial,source,val_accuracy,val_shift_accuracy,best\n"
    assert "uniform,soup,0.93,\n" in (tmp_path / "id_vs_shift.csv").read_text()


def test_a_name_with_a_comma_is_quoted(tmp_path: Path, results: Results) -> None:
    results.evaluation["models"][0]["name"] = 'a,"b"'

    write_csv_files(tmp_path, results)

    assert '"a,""b""",base,0.89,0.6\n' in (tmp_path / "id_vs_shift.csv").read_text()


def test_headers_name_the_metric(tmp_path: Path, judged: Results) -> None:
    judged.evaluation["metric"] = "f1_macro"

    write_csv_files(tmp_path, judged)

    headers = {path.stem: path.read_text().splitlines()[0] for path in tmp_path.iterdir()}
    assert headers == {
        "id_vs_shift": "model,kind,test_f1_macro,shift_f1_macro",
        "shifts": "model,kind,shift,f1_macro,low,high",
        "greedy": "soup,step,ingredient,val_f1_macro,accepted",
        "tuning": "study,trial,source,val_f1_macro,val_shift_f1_macro,best",
        "pareto": "study,trial,val_f1_macro,val_shift_f1_macro,on_front",
        "random_soups": "model,place,pool,size,mean_f1_macro,sd,improvement_percent",
        "wise_ft": "model,alpha,val_f1_macro,test_f1_macro,shift_f1_macro",
        "reliability": "model,scaled,confidence,accuracy,count",
    }


def test_judged_numbers_are_in_their_files(tmp_path: Path, judged: Results) -> None:
    write_csv_files(tmp_path, judged)

    lines = {path.stem: path.read_text().splitlines() for path in tmp_path.iterdir()}
    rows = judged.evaluation["random_soups"]["rows"]
    assert lines["random_soups"][1] == f"uniform,val,matched,16,{rows[0]['mean']},0.004,0.31"
    assert lines["wise_ft"][1] == "uniform,0.0,0.94,0.94,0.72"
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
        "place,size,accuracy,low,high\nval,1,0.9,0.8,0.95\nval,2,0.95,0.9,0.97\n",
        "soup,ingredient,place,shapley_accuracy,error,without_it\n"
        "all,ingredient-00,val,0.01,0.002,-0.005\n",
    ]


def test_a_finding_with_nothing_to_see_has_no_file(tmp_path: Path) -> None:
    assert write_finding_csv_files(tmp_path, {"soup_size": {"data": {}}}) == []
