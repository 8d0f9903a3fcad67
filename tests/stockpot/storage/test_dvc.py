from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stockpot.storage.dvc import inside_dvc_stage, pipeline_around

PRINT_PIPELINE = "from stockpot.storage.dvc import pipeline_around; print(pipeline_around())"

TWO_STAGES = f"{sys.executable} -c '{PRINT_PIPELINE}'; {sys.executable} -c '{PRINT_PIPELINE}'"


def _two_stages_of_one_group() -> list[str]:
    """Start a process group with two processes one after another, as `dvc repro` starts stages."""
    output = subprocess.run(
        ["sh", "-c", TWO_STAGES],
        env=os.environ | {"DVC_STAGE": "base"},
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    ).stdout
    return output.split()


def test_outside_dvc_there_is_no_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)

    assert not inside_dvc_stage()
    assert pipeline_around() is None


def test_stages_of_one_pipeline_share_its_name_and_another_has_its_own() -> None:
    first, second = _two_stages_of_one_group()
    other, _ = _two_stages_of_one_group()

    assert first == second
    assert first != other
    assert first.startswith("dvc-")


def test_the_name_holds_when_the_group_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "base")
    group = os.getpid()  # the group's own leader may be gone
    monkeypatch.setattr(os, "getpgid", lambda _: group)
    boot_ticks = Path(f"/proc/{group}/stat").read_text().split()[-31]

    assert pipeline_around() == f"dvc-{group}-{boot_ticks}"


def test_experiments_of_one_queue_are_pipelines_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DVC_STAGE", "base")
    names = []
    for experiment in ("gamey-taus", "staid-stob"):
        monkeypatch.setenv("DVC_EXP_NAME", experiment)
        names.append(pipeline_around() or "")

    assert names[0] != names[1]
    assert names[0].endswith("-gamey-taus")


def test_a_group_whose_leader_is_gone_still_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "base")
    monkeypatch.setattr(os, "getpgid", lambda _: 2**22 + 1)  # above the highest process number

    assert pipeline_around() == f"dvc-{2**22 + 1}-unknown"


ADOPT = """
import sys
from pathlib import Path
from stockpot.storage.dvc import adopt_outputs
print(adopt_outputs(Path(sys.argv[1]), sys.argv[2:]))
"""

PIPELINE = """
stages:
  made: {cmd: "false", outs: [made.txt]}
  unmade: {cmd: "false", outs: [unmade.txt]}
"""


@pytest.fixture
def dvc_project(tmp_path: Path) -> Path:
    """A DVC project with two stages that cannot run; the output of one is there."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "made.txt").write_text("made by another")
    return root


def _adopt(root: Path, *stages: str, **environment: str) -> str:
    """Adopt outputs in a process of its own: DVC keeps state and its warnings are not ours."""
    outside = {name: text for name, text in os.environ.items() if name != "DVC_STAGE"}
    own = {"DVC_SITE_CACHE_DIR": str(root / "site"), "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(
        [sys.executable, "-c", ADOPT, str(root), *stages],
        env=outside | own | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_an_output_that_is_there_is_adopted(dvc_project: Path) -> None:
    objection = _adopt(dvc_project, "made")

    assert objection == ""
    assert "path: made.txt" in (dvc_project / "dvc.lock").read_text()


def test_a_lock_file_that_a_killed_dvc_left_empty_is_written_anew(dvc_project: Path) -> None:
    (dvc_project / "dvc.lock").write_text("")

    objection = _adopt(dvc_project, "made")

    assert objection == ""
    assert "path: made.txt" in (dvc_project / "dvc.lock").read_text()


def test_what_dvc_objects_to_is_said(dvc_project: Path) -> None:
    objection = _adopt(dvc_project, "unmade")

    assert objection.startswith("DVC did not record the outputs of unmade: ")
    assert "unmade.txt" in objection
    assert not (dvc_project / "dvc.lock").exists()


def test_inside_a_dvc_stage_nothing_is_adopted(dvc_project: Path) -> None:
    objection = _adopt(dvc_project, "made", DVC_STAGE="made")

    assert objection == ""
    assert not (dvc_project / "dvc.lock").exists()


@pytest.mark.parametrize("missing", ["dvc.yaml", ".dvc"])
def test_outside_a_dvc_project_nothing_is_adopted(dvc_project: Path, missing: str) -> None:
    (dvc_project / missing).rename(dvc_project / "elsewhere")

    objection = _adopt(dvc_project, "made")

    assert objection == ""
    assert not (dvc_project / "dvc.lock").exists()
