"""Two commands at once on one project."""

from __future__ import annotations

import pytest
from projects import ProjectFolder


def weights(project: ProjectFolder) -> dict[str, int]:
    """Return when each file of an ingredient's weights was written, by its path."""
    times = project.times().items()
    return {path: time for path, time in times if "ingredients/" in path and path.endswith("rs")}


@pytest.mark.full
def test_a_second_run_says_for_whom_it_waits_and_then_finds_nothing_to_do(
    served_project: ProjectFolder,
) -> None:
    """The first one trains the two ingredients that were added."""
    before = weights(served_project)
    served_project.change_params(sweep={"size": 6})

    first = served_project.start("stockpot", "run")
    second = served_project.start("stockpot", "run")
    outputs = [first.communicate(timeout=120)[0], second.communicate(timeout=120)[0]]

    assert (first.returncode, second.returncode) == (0, 0), outputs
    waited = [output for output in outputs if "Another run has this project" in output]
    assert len(waited) == 1
    assert "(stockpot run, since " in waited[0]
    assert "Nothing to do: everything is up to date." in waited[0]
    runs = served_project.parent_runs()
    assert [run.status for run in runs] == ["FINISHED", "FINISHED"]  # the first one was before
    assert len(served_project.manifest("sweep")["ingredients"]) == 6
    assert before.items() <= weights(served_project).items()
    assert len(weights(served_project)) == len(before) + 2
    assert served_project.dvc("status").output.strip() == "Data and pipelines are up to date."
