"""The shared store: not set up, in use, of another format, away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stockpot.experiment.doctor.shared_store import check_store
from stockpot.experiment.opening import open_store
from stockpot.experiment.plan import Plan

MakePlan = Callable[..., Plan]


def test_a_project_without_a_store_needs_no_check(make_new_plan: MakePlan) -> None:
    assert [*check_store(make_new_plan())] == []


def test_a_store_is_unused_then_answers_then_is_of_another_format(
    make_new_plan: MakePlan, tmp_path: Path
) -> None:
    plan, marker = make_new_plan(f"store={tmp_path}/store"), tmp_path / "store/stockpot-store.json"

    (unused,) = check_store(plan)
    assert not marker.exists()  # nothing is written
    open_store(plan)
    (used,) = check_store(plan)
    marker.write_text('{"format": 2}')
    (other,) = check_store(plan)

    assert [each.level for each in (unused, used, other)] == ["note", "ok", "problem"]
    assert "another version of stockpot" in other.found


@pytest.mark.parametrize("address", ["nonsense://bucket/x", "s3://bucket/x"])
def test_a_store_that_cannot_be_read_is_a_problem_with_advice(
    make_new_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, address: str, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))

    (found,) = check_store(make_new_plan(f"store={address}"))

    assert found.level == "problem"
    assert address in found.found
    assert "params.yaml" in found.advice
