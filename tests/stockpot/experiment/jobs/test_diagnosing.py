from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stockpot.diagnostics.finding import Alert, Finding
from stockpot.experiment.jobs.diagnosing import (
    diagnose_models,
    read_finding_files,
    write_finding_files,
)
from stockpot.experiment.plan import Plan
from stockpot.experiment.report_files import load_results
from stockpot.experiment.state import stage_modules
from stockpot.reporting.figures import diagnostic_sections
from stockpot.storage.manifests import digests_of, write_manifest

FINDING = Finding("All is well.", {"largest": 0.5}, {"matrix": [[0.0, 0.5]]}, (Alert("b", "far"),))


def _record(root: Path, findings: dict[str, Finding]) -> list[Path]:
    written = write_finding_files(root, findings)
    write_manifest(root, "diagnose", {"inputs": "", "files": digests_of(root, written)})
    return written


def test_a_finding_survives_its_file() -> None:
    assert Finding.from_json(json.loads(json.dumps(FINDING.to_json()))) == FINDING


def test_findings_are_read_in_the_order_of_the_report(tmp_path: Path) -> None:
    _record(tmp_path, {"soup_size": FINDING, "barriers": FINDING})

    found = read_finding_files(tmp_path)

    assert list(found) == ["barriers", "soup_size"]
    assert Finding.from_json(found["barriers"]) == FINDING


def test_files_of_diagnostics_no_longer_asked_for_are_deleted(tmp_path: Path) -> None:
    _record(tmp_path, {"barriers": FINDING, "regime": FINDING})

    written = _record(tmp_path, {"regime": FINDING})

    assert sorted((tmp_path / "results" / "diagnostics").iterdir()) == sorted(written)
    assert not (tmp_path / "results" / "diagnostics" / "barriers.json").exists()
    assert list(read_finding_files(tmp_path)) == ["regime"]


def test_a_finding_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_finding_files(tmp_path, {"regime": Finding("", {"distance": float("nan")})})

    assert not (tmp_path / "results" / "diagnostics" / "regime.json").exists()


def test_a_diagnostic_of_the_users_is_cached_written_and_reported(
    make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = make_plan("diagnose=[custom_judging:look]")
    [job] = plan.diagnostic_jobs()

    finding = diagnose_models(job, "cpu")
    written = _record(tmp_path, {job.name: finding, "barriers": FINDING})

    assert job.cached.is_file()
    assert diagnose_models(job, "cpu") == finding
    assert "custom_judging" in stage_modules(plan, "diagnose")
    # Even of a diagnostic that imports it for types alone:
    assert {"custom_judging", "stockpot.diagnostics.context"} <= {*job.modules}
    assert tmp_path / "results" / "diagnostics" / "custom_judging.look.json" in written
    found = read_finding_files(tmp_path)
    assert list(found) == ["barriers", "custom_judging:look"]
    assert Finding.from_json(found[job.name]) == finding
    results = load_results(plan.project.root)
    [section] = diagnostic_sections(replace(results, diagnostics={job.name: found[job.name]}))
    assert section.sentence == finding.sentence
    assert section.figure.svg is None
    assert section.metrics.rows[0][0].text == "distance"
    assert section.alerts == ("ingredient-00: it moved",)
