"""Whole runs of projects that share a store on S3, over a network that fails, and DVC's remote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from projects import PARAMS, ProjectFolder
from s3_server import S3, FaultyProxy, faulty_proxy, s3_server

pytestmark = pytest.mark.full

STORE = "s3://shared/store"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        server.files().mkdir("shared")
        yield server


@pytest.fixture(scope="module")
def proxy(s3: S3) -> Iterator[FaultyProxy]:
    """Let 10 % of all requests fail."""
    with faulty_proxy(s3, share=0.1) as running:
        yield running


@pytest.fixture(scope="module")
def first(
    s3: S3, proxy: FaultyProxy, prefect_url: str, tmp_path_factory: pytest.TempPathFactory
) -> ProjectFolder:
    """Return a project that has run with the store; for reading only."""
    project = ProjectFolder.make(tmp_path_factory.mktemp("first"), PARAMS | {"store": STORE})
    project.environment |= s3.environment | {
        "AWS_ENDPOINT_URL": proxy.endpoint,
        "PREFECT_API_URL": prefect_url,
    }
    finished = project.stockpot("run")
    assert finished.code == 0, finished.output
    return project


def test_a_second_machine_makes_nothing_again_and_has_the_digests_of_a_run_without_a_store(
    first: ProjectFolder,
    finished_once: ProjectFolder,
    make_project: Callable[..., ProjectFolder],
    s3: S3,
    proxy: FaultyProxy,
) -> None:
    stored = s3.objects("shared/store")
    second = make_project("second", own_server=True, store=STORE)
    second.environment |= s3.environment | {"AWS_ENDPOINT_URL": proxy.endpoint}

    finished = second.stockpot("run")

    assert finished.code == 0, finished.output
    assert second.digests() == first.digests() == finished_once.digests()
    making = ("train-", "soup-", "tune-tuned")  # the task run of the stage is called tune-0
    tasks = [task for task in second.prefect_runs("task") if task.name.startswith(making)]
    assert {task.tags["state"] for task in tasks} == {"Skipped"}
    assert len(tasks) == len(first.digests())
    assert s3.objects("shared/store") == stored
    assert {"reset", "503", "slow"} <= set(proxy.counts)


def test_a_store_that_is_set_later_gets_the_models_of_a_run_with_nothing_to_do(
    served_project: ProjectFolder, s3: S3
) -> None:
    served_project.environment |= s3.environment
    later = "s3://shared/later"

    finished = served_project.stockpot("run", "--set", f"store={later}")

    assert finished.code == 0, finished.output
    assert "Nothing to do" in finished.output
    records = s3.objects("shared/later/models")
    assert len(records) == len(served_project.digests())


def test_a_missing_bucket_ends_the_run_before_anything_is_made(
    make_project: Callable[..., ProjectFolder], s3: S3
) -> None:
    project = make_project(store="s3://nowhere/x")
    project.environment |= s3.environment

    finished = project.stockpot("run")

    assert finished.code == 2
    assert "s3://nowhere/x: there is no such bucket" in " ".join(finished.output.split())
    assert "Traceback" not in finished.output
    assert not (project.root / "results").exists()
    assert not (project.root / "checkpoints").exists()


def test_dvc_pushes_to_the_same_server_and_a_clone_that_pulls_has_nothing_to_do(
    first: ProjectFolder, tmp_path: Path
) -> None:
    project, clone = first.copy(tmp_path / "copy"), ProjectFolder.around(tmp_path / "clone")
    own = {name: v for name, v in first.environment.items() if name.startswith(("AWS", "PREFECT"))}
    for one in (project, clone):
        one.environment |= own
    added = project.dvc("remote", "add", "--default", "team", "s3://shared/dvc")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "results")
    pushed = project.dvc("push")
    project.git("clone", "--quiet", str(project.root), str(clone.root))

    pulled = clone.dvc("pull")
    finished = clone.stockpot("run")

    assert [each.code for each in (added, pushed, pulled)] == [0, 0, 0], pulled.output
    assert finished.code == 0, finished.output
    assert "Nothing to do" in finished.output
    assert clone.digests() == first.digests()
