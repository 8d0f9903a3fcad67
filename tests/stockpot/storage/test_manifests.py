from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockpot.errors import InputError
from stockpot.experiment.plan import Plan
from stockpot.experiment.stages import STAGES
from stockpot.storage.digests import file_digest
from stockpot.storage.manifests import (
    digests_of,
    manifest_path,
    models_of,
    outputs_exist,
    read_manifest,
    write_manifest,
)
from stockpot.storage.models import Model


def test_every_stage_has_a_file_in_results(tmp_path: Path) -> None:
    names = [manifest_path(tmp_path, stage).relative_to(tmp_path).as_posix() for stage in STAGES]

    assert names == [
        "results/base.json",
        "results/sweep.json",
        "results/soups.json",
        "results/tune.json",
        "results/diagnose.json",
        "results/evaluation.json",
        "results/report.json",
    ]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    manifest: dict[str, Any] = {"inputs": "abc", "soups": [{"name": "ü", "x": [1.5, None]}]}

    write_manifest(tmp_path, "soups", manifest)

    assert read_manifest(tmp_path, "soups") == manifest


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    write_manifest(tmp_path, "base", {"a": 1, "b": {"x": 1, "y": 2}})
    write_manifest(tmp_path, "sweep", {"b": {"y": 2, "x": 1}, "a": 1})

    contents = [manifest_path(tmp_path, stage).read_bytes() for stage in ("base", "sweep")]

    assert contents[0] == contents[1]


def test_a_manifest_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_manifest(tmp_path, "base", {"score": float("nan")})

    assert not manifest_path(tmp_path, "base").exists()


def test_a_missing_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_manifest(tmp_path, "evaluate")

    assert str(caught.value) == (
        "results/evaluation.json: missing; run `stockpot evaluate` first, or `stockpot run` for all"
    )


@pytest.mark.parametrize("content", [b"", b'{"inputs": ', b"\xff\xfe"])
def test_a_damaged_manifest_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = manifest_path(tmp_path, "sweep")
    path.parent.mkdir()
    path.write_bytes(content)

    message = r"^results/sweep\.json: not a complete manifest \(.*\); delete it and run again$"
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path, "sweep")


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("base", ["base"]),
        ("sweep", [f"ingredient-0{number}" for number in range(4)]),
        ("soups", ["uniform", "greedy", "top 2"]),
        ("tune", ["tuned", "pareto"]),
        ("diagnose", []),
        ("report", []),
    ],
)
def test_the_models_of_a_manifest_are_found_whatever_the_stage(
    finished: Plan, stage: str, names: list[str]
) -> None:
    models = models_of(read_manifest(finished.project.root, stage))

    assert [model.name for model in models] == names
    assert all(isinstance(model, Model) for model in models)


def test_digests_are_by_path_below_the_root(tmp_path: Path) -> None:
    paths = [tmp_path / "b.txt", tmp_path / "sub" / "a.txt"]
    paths[1].parent.mkdir()
    for path in paths:
        path.write_text(path.name)

    digests = digests_of(tmp_path, reversed(paths))

    assert digests == {"b.txt": file_digest(paths[0]), "sub/a.txt": file_digest(paths[1])}


@pytest.fixture
def soups(plan: Plan) -> dict[str, Any]:
    return read_manifest(plan.project.root, "soups")


def test_outputs_of_a_finished_stage_are_there(plan: Plan, soups: dict[str, Any]) -> None:
    assert outputs_exist(plan.project.root, soups)


def test_missing_weights_are_noticed(plan: Plan, soups: dict[str, Any]) -> None:
    (plan.project.root / soups["soups"][1]["path"]).unlink()

    assert not outputs_exist(plan.project.root, soups)


def test_truncated_weights_are_noticed(plan: Plan, soups: dict[str, Any]) -> None:
    path = plan.project.root / soups["soups"][1]["path"]
    path.write_bytes(path.read_bytes()[:-1])

    assert not outputs_exist(plan.project.root, soups)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("other")])
def test_a_missing_or_changed_file_is_noticed(plan: Plan, change: Any) -> None:
    root = plan.project.root
    evaluation = read_manifest(root, "evaluate")
    there_before = outputs_exist(root, evaluation)

    change(root / "results" / "plots" / "shifts.csv")

    assert there_before
    assert not outputs_exist(root, evaluation)
