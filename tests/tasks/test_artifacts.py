from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import artifacts
from tasks.artifacts import artifact_key, publish_report


def test_a_key_is_of_one_project_and_one_experiment_and_one_that_prefect_takes() -> None:
    keys = [
        artifact_key("report", Path("/a/My Project"), "Soups / 2"),
        artifact_key("report", Path("/b/My Project"), "Soups / 2"),
        artifact_key("report", Path("/a/My Project"), "soups"),
        artifact_key("results", Path("/a/My Project"), "Soups / 2"),
    ]

    assert len({*keys}) == 4
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", key) for key in keys)
    assert keys[0].startswith("report-my-project-soups-2-")


@pytest.mark.parametrize(
    ("uri", "run", "published"),
    [
        ("http://mlflow:5000", "ab12", ["http://mlflow:5000/#/experiments/7/runs/ab12"]),
        ("http://mlflow:5000", None, ["`results/report.html` in the project folder `/a/p`"]),
        ("sqlite:////a/p/mlflow.db", "ab12", ["`results/report.html` in the project folder"]),
    ],
    ids=["server", "server that is away", "database"],
)
def test_the_report_is_a_link_that_works_from_a_server_or_a_path(
    monkeypatch: pytest.MonkeyPatch, uri: str, run: str | None, published: list[str]
) -> None:
    texts: list[str] = []
    for name in ("create_link_artifact", "create_markdown_artifact"):
        monkeypatch.setattr(artifacts, name, lambda text, *_args, **_options: texts.append(text))
    tracker = SimpleNamespace(parent_run_id=run, store=SimpleNamespace(experiment_id="7"))
    plan = SimpleNamespace(
        tracking_uri=uri, experiment=SimpleNamespace(track=SimpleNamespace(experiment="soups"))
    )
    session: Any = SimpleNamespace(root=Path("/a/p"), plan=plan, tracker=tracker)

    publish_report(session, Path("/a/p/results/report.html"))

    assert [text.startswith(start) for text, start in zip(texts, published, strict=True)] == [True]
    assert not any("file:" in text for text in texts)
