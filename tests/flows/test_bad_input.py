"""Invalid input ends with exit code 2 and one paragraph, before anything is started."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from projects import PARAMS, ProjectFolder

from stockpot.errors import InputError
from stockpot.experiment.opening import make_plan

SET = {
    "an unknown key": ("sweep.sise=4", "sweep.sise: unknown field 'sise', .* mean 'size'"),
    "a wrong type": ("sweep.size=many", "sweep.size: must be a valid integer, .*got 'many'"),
    "out of range": (
        "evaluate.confidence=1.5",
        "evaluate.confidence: must be less than 1",
    ),
    "an empty space": ("sweep.space={}", "sweep.space: is empty"),
    "size 0": ("sweep.size=0", "sweep: size must be at least 1 without import or rounds, got 0"),
    "an unknown workload": ("workload.name=digit", "unknown workload 'digit', .* mean 'digits'"),
    "an unknown method": ("soups.0.method=liner", "unknown merge method 'liner', .* mean 'linear'"),
    "an unknown sampler": ("tune.0.sampler=tpee", "tune.0: unknown sampler 'tpee', .* mean 'tpe'"),
    "an unknown objective": (
        "tune.0.objectives=[val_shft]",
        "tune: .*: unknown objective 'val_shft', .* mean 'val_shift'",
    ),
    "an unknown shift": ("workload.val_shifts=[blurr]", "unknown shift 'blurr', .* mean 'blur'"),
    "a shift of val and test": ("workload.val_shifts=[noise]", r"never both, got \['noise'\]"),
    "no such module": ("workload.name=nowhere:Own", "module 'nowhere' cannot be imported"),
    "no such place": ("soups.7.name=mean", "--set: no field 'soups.7.name' in the file"),
    "an override without a value": ("sweep.size", "--set: must look like .*, got 'sweep.size'"),
    "an override that is not YAML": ("sweep.size=[1", "--set sweep.size: the value is not YAML"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    """Return a project that nothing has run in, nor will."""
    return ProjectFolder.make(tmp_path_factory.mktemp("untouched"), PARAMS)


def one_paragraph(output: str) -> str:
    """Return the text of the panel that an error is shown in, as one line."""
    lines = [line.strip("│ ") for line in output.splitlines() if line.startswith("│")]
    return re.sub(r"\s+", " ", " ".join(lines))


def assert_refused(
    project: ProjectFolder, message: str, *arguments: str, at: Path | None = None, **env: str
) -> None:
    """The command says what is wrong, with exit code 2, and has started and made nothing."""
    before = everything_in(project.root)

    finished = project.stockpot("run", *arguments, at=at, **env)

    assert finished.code == 2, finished.output
    assert re.search(message, one_paragraph(finished.output)), finished.output
    assert "Traceback" not in finished.output
    assert finished.seconds < 10
    assert everything_in(project.root) == before
    assert project.processes() == {}


def everything_in(folder: Path) -> set[str]:
    """List all files; the lock of a run comes with the plan of a whole experiment."""
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return files - {".stockpot", ".stockpot/run.lock"}


@pytest.mark.parametrize(("override", "message"), SET.values(), ids=SET)
def test_a_field_that_cannot_be_used_is_named(
    project: ProjectFolder, override: str, message: str
) -> None:
    with patch.dict(os.environ), pytest.raises(InputError) as refused:
        make_plan(project.root / "params.yaml", [override])

    assert re.search(message, str(refused.value).replace("\n", " "))


def test_a_tracking_server_that_refuses_is_named(project: ProjectFolder) -> None:
    message = "track.uri http://127.0.0.1:9: the server must answer, got 'connection refused'"

    assert_refused(project, message, "--set", "track.uri=http://127.0.0.1:9")


def test_all_errors_of_a_file_are_shown_at_once(project: ProjectFolder) -> None:
    arguments = ("--set", "sweep.size=0", "--set", "evaluate.bootstrap=1")

    assert_refused(project, "sweep: size .* evaluate.bootstrap: ", *arguments)


def test_broken_yaml_is_shown_with_its_place(project: ProjectFolder) -> None:
    (project.root / "broken.yaml").write_text("sweep:\n  size: [1\nsoups: 2\n", encoding="utf-8")

    assert_refused(
        project, "broken.yaml: not readable as YAML: .* line 3", "--params", "broken.yaml"
    )


def test_a_missing_file_is_named(project: ProjectFolder) -> None:
    assert_refused(project, "nowhere.yaml: no such file in ", "--params", "nowhere.yaml")


def test_a_folder_without_a_project_is_told_so(project: ProjectFolder) -> None:
    assert_refused(project, "params.yaml: none in /usr or above", at=Path("/usr"))


def test_a_folder_that_cannot_be_written_is_named(project: ProjectFolder) -> None:
    there = "/proc/1"  # root cannot write there either

    assert_refused(project, f"{there}: the project folder must be writable", STOCKPOT_ROOT=there)


def test_a_tracking_server_that_never_answers_is_given_up(
    project: ProjectFolder, silent_server: str
) -> None:
    assert_refused(project, "got 'no answer in 5 s'", "--set", f"track.uri={silent_server}")


def test_a_dead_prefect_server_is_named(project: ProjectFolder) -> None:
    url = "http://127.0.0.1:9/api"

    assert_refused(project, f"no Prefect server answers at '{url}'", PREFECT_API_URL=url)


def test_a_stage_before_its_time_says_what_to_run_first(project: ProjectFolder) -> None:
    finished = project.stockpot("tune")

    assert finished.code == 2
    message = one_paragraph(finished.output)
    assert "stage 'tune' needs 'base', which is not up to date" in message
    assert "run `stockpot base` first" in message
    assert project.processes() == {}


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Return the address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
