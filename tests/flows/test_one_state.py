"""`stockpot run` and `dvc repro` share one state: what one has made the other does not remake."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import PARAMS, ProjectFolder

COMMANDS = [
    pytest.param(("stockpot", "run"), marks=pytest.mark.slow),
    pytest.param(("dvc", "repro"), marks=pytest.mark.full),
]
UP_TO_DATE = "Data and pipelines are up to date."


def stages_run(output: str) -> list[str]:
    """Return the stages that a `dvc repro` ran, from what it says."""
    lines = [line for line in output.splitlines() if line.startswith("Running stage '")]
    return [line.split("'")[1] for line in lines]


def written(project: ProjectFolder, before: dict[str, int]) -> set[str]:
    """Return the files whose times are not those of `before`."""
    return {name for name, time in project.times().items() if before.get(name) != time}


def change_code(project: ProjectFolder, path: str) -> None:
    """Change a file of the project's own code, though not what it gives."""
    with (project.root / path).open("a", encoding="utf-8") as file:
        file.write("\n_CHANGED = True\n")


def add_line(project: ProjectFolder, path: str, line: str) -> None:
    """Add a line to the table of a registry."""
    file = project.root / path
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("    {\n", f"    {{\n{line}\n", 1), encoding="utf-8")


def assert_up_to_date(project: ProjectFolder) -> None:
    """Neither DVC nor stockpot finds anything to do, and neither writes a file that it versions."""
    before = project.times()

    status, repro, run = project.dvc("status"), project.dvc("repro"), project.stockpot("run")

    assert (status.code, status.output.strip()) == (0, UP_TO_DATE)
    assert (repro.code, stages_run(repro.output)) == (0, [])
    assert run.code == 0
    assert "Nothing to do" in run.output
    assert project.times() == before


@pytest.mark.full
def test_after_a_run_there_is_nothing_to_do_for_dvc_or_another_run(
    served_project: ProjectFolder,
) -> None:
    assert_up_to_date(served_project)

    assert len(served_project.parent_runs()) == 1
    assert not (served_project.root / ".stockpot" / "prefect-server.url").exists()


@pytest.mark.full
def test_another_mlflow_experiment_gets_all_models_that_its_soups_come_from(
    served_project: ProjectFolder,
) -> None:
    before = served_project.times()
    served_project.change_params(
        track={"experiment": "another"}, soups=[{"name": "both", "select": "uniform"}]
    )

    finished = served_project.stockpot("soups")

    assert finished.code == 0, finished.output
    assert not any("ingredients/" in name for name in written(served_project, before))
    runs = [run.tags.get("stockpot.key") for run in served_project.mlflow_runs()]
    assert {runs.count(m["key"]) for m in served_project.manifest("sweep")["ingredients"]} == {2}
    assert runs.count(served_project.manifest("base")["base"]["key"]) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_another_tuning_runs_only_tune_evaluate_and_report(
    served_project: ProjectFolder, command: tuple[str, ...]
) -> None:
    before = served_project.times()
    served_project.change_params(tune=[PARAMS["tune"][0] | {"trials": 9}])

    finished = served_project.finish(*command)

    assert finished.code == 0, finished.output
    manifests = {name for name in written(served_project, before) if name.endswith(".json")}
    assert {"results/tune.json", "results/evaluation.json", "results/report.json"} <= manifests
    assert not manifests & {"results/base.json", "results/sweep.json", "results/soups.json"}
    assert not any("ingredients/" in name for name in written(served_project, before))
    assert served_project.dvc("status").output.strip() == UP_TO_DATE


@pytest.mark.full
def test_edited_code_reruns_only_the_stages_whose_results_it_makes(
    served_project: ProjectFolder,
) -> None:
    """A comment, then code that made no ingredient and no soup, then code that judges."""
    served_project.own_code()
    before = served_project.times()
    code = served_project.root / "stockpot"
    with (code / "ingredients" / "finetuning" / "loop.py").open("a", encoding="utf-8") as file:
        file.write("\n# A remark.\n")

    run = served_project.stockpot("run")

    assert "Nothing to do" in run.output
    assert written(served_project, before) == set()

    add_line(served_project, "stockpot/merging/registry.py", '        "mine": "mine:mine",')
    mine = code / "diagnostics" / "mine.py"
    mine.write_text("def mine(context):\n    pass\n", encoding="utf-8")
    for edited in ("workloads/causal_lm.py", "reporting/plots/shifts.py", "tracking/tracker.py"):
        change_code(served_project, f"stockpot/{edited}")

    status, repro = served_project.dvc("status"), served_project.dvc("repro")

    assert "modified:           stockpot" in status.output
    assert repro.code == 0, repro.output
    assert stages_run(repro.output) == ["code", "report"]

    change_code(served_project, "stockpot/judging/judge.py")

    repro = served_project.dvc("repro")

    assert stages_run(repro.output) == ["code", "evaluate", "report"]
    assert not any(name.startswith("checkpoints/") for name in written(served_project, before))
    assert_up_to_date(served_project)


@pytest.mark.full
def test_a_push_a_clone_and_a_pull_bring_everything_back(
    served_project: ProjectFolder, tmp_path: Path
) -> None:
    remote = tmp_path / "remote"
    served_project.dvc("remote", "add", "--default", "local", str(remote))
    push = served_project.dvc("push")
    served_project.git("add", "--all")
    served_project.git("commit", "--quiet", "--message", "results")
    clone = ProjectFolder.around(tmp_path / "clone")
    served_project.git("clone", "--quiet", str(served_project.root), str(clone.root))

    pull = clone.dvc("pull")

    assert (push.code, pull.code) == (0, 0), push.output + pull.output
    assert clone.digests() == served_project.digests()
    assert_up_to_date(clone)


@pytest.mark.slow
def test_an_experiment_without_tuning_is_whole_for_dvc_too(
    served_project: ProjectFolder,
) -> None:
    shutil.rmtree(served_project.root / "checkpoints" / "tuned")
    served_project.change_params(tune=[])

    run = served_project.stockpot("run")

    assert run.code == 0, run.output
    assert served_project.manifest("tune")["tuned"] == []
    assert_up_to_date(served_project)


@pytest.mark.slow
def test_overrides_leave_what_dvc_knows_alone(served_project: ProjectFolder) -> None:
    lock = (served_project.root / "dvc.lock").read_bytes()

    run = served_project.stockpot("run", "--set", "soups=[{name: top2, select: top_k, k: 2}]")

    assert run.code == 0, run.output
    assert (served_project.root / "dvc.lock").read_bytes() == lock
    assert "top2" in served_project.digests()


@pytest.mark.slow
def test_a_whole_dvc_repro_makes_what_a_run_makes(
    make_project: Callable[..., ProjectFolder], finished_once: ProjectFolder
) -> None:
    project = make_project()

    repro = project.dvc("repro")

    assert repro.code == 0, repro.output
    assert project.digests() == finished_once.digests()
    assert len(project.parent_runs()) == 1
    assert_up_to_date(project)


@pytest.mark.slow
@pytest.mark.parametrize("command", [("stockpot", "run"), ("dvc", "repro")])
def test_changed_training_code_makes_everything_anew(
    served_project: ProjectFolder, command: tuple[str, ...]
) -> None:
    served_project.own_code()
    before = served_project.times()
    change_code(served_project, "stockpot/ingredients/finetuning/loop.py")

    finished = served_project.finish(*command)

    assert finished.code == 0, finished.output
    weights = {name for name in written(served_project, before) if "ingredients/" in name}
    assert len([name for name in weights if name.endswith(".safetensors")]) == 4
    assert_up_to_date(served_project)
