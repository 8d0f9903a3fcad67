"""Key parts of outputs and val scores, besides the weights; imports no torch."""

from __future__ import annotations

from typing import Any

from stockpot.storage.code_keys import code_key
from stockpot.workloads.spec import WorkloadSpec

PASSES = "passes"
"""The folder in .stockpot with all passes."""


def outputs_key_parts(workload: WorkloadSpec, set_name: str) -> dict[str, Any]:
    """Return the key parts of outputs on a set: its examples and the code of forward passes."""
    code = code_key("stockpot.workloads.passes", *workload.modules)
    return {**workload.set_key_parts(set_name), "code": code}


def val_scores_key_parts(workload: WorkloadSpec) -> dict[str, Any]:
    """Return the key parts of val scores: val and its shifts, and the code."""
    code = code_key("stockpot.scoring.val_scores", *workload.modules)
    return {**workload.val_key_parts(), "code": code}


def pass_key_parts(workload: WorkloadSpec, set_name: str) -> dict[str, Any]:
    """Return the key parts of a pass over a set: its examples, the code, and the metric's."""
    code = code_key("stockpot.scoring.cached_passes", *workload.modules)
    return {**workload.set_key_parts(set_name), "code": code}
