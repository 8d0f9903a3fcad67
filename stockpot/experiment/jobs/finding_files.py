"""The files of the diagnose stage: one a diagnostic, none of an earlier run beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockpot.config.experiment import DIAGNOSTIC_NAMES
from stockpot.diagnostics.finding import Finding
from stockpot.reporting.csv_files import write_finding_csv_files
from stockpot.storage.atomic_files import write_text
from stockpot.storage.manifests import read_manifest


def write_finding_files(root: Path, findings: Mapping[str, Finding]) -> list[Path]:
    """Write results/diagnostics/<name>.json for each finding, and delete those of no finding.

    Returns:
        These files, and the CSV files of those that one plots.
    """
    folder = root / "results" / "diagnostics"
    folder.mkdir(parents=True, exist_ok=True)
    for name, finding in findings.items():
        text = json.dumps(finding.to_json(), indent=1, sort_keys=True, allow_nan=False)
        write_text(folder / f"{name}.json", text + "\n")
    written = [folder / f"{name}.json" for name in findings]
    for stale in sorted({*folder.glob("*.json")} - {*written}):
        stale.unlink()
    told = {name: finding.to_json() for name, finding in findings.items()}
    return [*written, *write_finding_csv_files(folder, told)]


def read_finding_files(root: Path) -> dict[str, dict[str, Any]]:
    """Read what the diagnose stage found, by name, in the order of the report.

    Raises:
        InputError: the stage has not run.
    """
    files = read_manifest(root, "diagnose")["files"]
    paths = {name: f"results/diagnostics/{name}.json" for name in DIAGNOSTIC_NAMES}
    return {
        name: json.loads((root / path).read_text(encoding="utf-8"))
        for name, path in paths.items()
        if path in files
    }
