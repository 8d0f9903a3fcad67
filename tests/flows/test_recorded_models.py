"""The commands that read records of MLflow: `promote` and `reproduce`."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from projects import ProjectFolder


@pytest.mark.full
def test_the_best_soup_is_champion_at_the_end_of_a_run_if_that_is_asked_for(
    served_project: ProjectFolder,
) -> None:
    served_project.change_params(promote={"enabled": True})

    run = served_project.stockpot("run")
    again = served_project.stockpot("promote")

    (newest, *_) = served_project.parent_runs()
    assert run.code == 0, run.output
    assert newest.tags["stockpot.promotion"].endswith("(version 1) is champion: there was none.")
    assert again.code == 0, again.output
    assert again.output.strip().endswith("(version 1) is champion already.")


@pytest.mark.full
def test_models_are_made_again_and_one_that_differs_is_told_by_the_exit_code(
    served_project: ProjectFolder,
) -> None:
    """The record of one of them is forged: its score on val was another."""
    with closing(sqlite3.connect(served_project.root / ".stockpot" / "mlflow.db")) as database:
        database.execute(
            "UPDATE latest_metrics SET value = 0.123 WHERE key = 'val/accuracy' AND run_uuid = "
            "(SELECT run_uuid FROM runs WHERE name = 'uniform')"
        )
        database.commit()

    finished = served_project.stockpot("reproduce", "greedy", "uniform")

    assert finished.code == 1, finished.output
    told = {line.split(" (run ")[0]: line for line in finished.output.splitlines()}
    assert told["greedy"].endswith("): the same")
    assert told["uniform"].endswith("): differs")
    assert "  val/accuracy 0.123000, rebuilt 0." in finished.output
