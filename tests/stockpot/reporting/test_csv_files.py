from __future__ import annotations

from pathlib import Path

from stockpot.reporting import Results, write_csv_files


def test_files_have_the_names_that_dvc_plots_expects(tmp_path: Path, results: Results) -> None:
    paths = write_csv_files(tmp_path / "plots", results)

    names = ["id_vs_shift.csv", "shifts.csv", "greedy.csv", "tuning.csv", "pareto.csv"]
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
        "soup,step,ingredient,score,accepted\n"
        "greedy,1,ingredient-01,0.96,true\n"
        "greedy,2,ingredient-00,0.955,false\n"
    )


def test_tuning_names_values_by_objective_and_follows_the_first(
    tmp_path: Path, results: Results
) -> None:
    write_csv_files(tmp_path, results)

    assert (tmp_path / "tuning.csv").read_text() == (
        "study,trial,source,val,val_shift,best\n"
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
        "study,trial,val,val_shift,on_front\n"
        "both,0,0.96,0.8,true\n"
        "both,1,0.9,0.7,false\n"
        "both,2,0.95,0.85,true\n"
    )


def test_a_plain_run_has_files_with_headers(tmp_path: Path, plain_results: Results) -> None:
    write_csv_files(tmp_path, plain_results)

    assert (tmp_path / "greedy.csv").read_text() == "soup,step,ingredient,score,accepted\n"
    assert (tmp_path / "tuning.csv").read_text() == "study,trial,source,val,val_shift,best\n"
    assert "uniform,soup,0.93,\n" in (tmp_path / "id_vs_shift.csv").read_text()


def test_a_name_with_a_comma_is_quoted(tmp_path: Path, results: Results) -> None:
    results.evaluation["models"][0]["name"] = 'a,"b"'

    write_csv_files(tmp_path, results)

    assert '"a,""b""",base,0.89,0.6\n' in (tmp_path / "id_vs_shift.csv").read_text()
