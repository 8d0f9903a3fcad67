"""The stages of an experiment, in order, and which models and which code each one works with."""

from __future__ import annotations

from stockpot.experiment.jobs.importing import IMPORTING_CODE
from stockpot.workloads.spec import SCORING_CODE

STAGES = ("base", "sweep", "soups", "tune", "diagnose", "evaluate", "report")

# Stages whose models a stage reads; the manifests are also its dependencies in dvc.yaml.
UPSTREAM = {
    "base": (),
    "sweep": ("base",),
    "soups": ("sweep",),
    "tune": ("sweep",),
    "diagnose": ("base", "sweep", "soups", "tune"),
    "evaluate": ("base", "sweep", "soups", "tune"),
    "report": ("base", "sweep", "soups", "tune", "diagnose", "evaluate"),
}

# Code of the package that a stage's results depend on; dvc.yaml lists the same.
CODE = {
    "base": (
        *("finetuning", "workloads", *SCORING_CODE, "seeding.py", "alignment/batch_norm.py"),
        *("merging/sparse_masks.py", *IMPORTING_CODE),
    ),
    "sweep": (
        *("finetuning", "workloads", *SCORING_CODE, "seeding.py", "search.py", "soup_search.py"),
        *("precheck", "precheck_jobs.py", "alignment/barrier.py", "alignment/batch_norm.py"),
        *("merging", "selection", "preparation", *IMPORTING_CODE),
    ),
    "soups": (
        *("merging", "preparation", "selection", "workloads", *SCORING_CODE),
        "alignment/batch_norm.py",
        *("statistics/paired.py", "statistics/values.py", "soup_jobs.py", "seeding.py"),
    ),
    "tune": (
        *("merging", "preparation", "selection", "tuning", "workloads", *SCORING_CODE),
        "alignment/batch_norm.py",
        *("tuning_jobs.py", "tuning_searches.py", "seeding.py"),
    ),
    "diagnose": (
        *("diagnostics", "statistics", "alignment", "merging", "preparation", "finetuning"),
        *("workloads", "evaluation", "reporting/csv_files.py", "metric_units.py", "seeding.py"),
    ),
    "evaluate": (
        *("evaluation", "workloads", "merging", "selection", "statistics", "reporting"),
        *("preparation", "alignment/batch_norm.py", "metric_units.py", "seeding.py"),
    ),
    "report": ("reporting", "metric_units.py", "finetuning/hyperparameters.py"),
}


def all_before(stage: str) -> list[str]:
    """List the stages that a stage's results depend on, directly or not, in order."""
    direct = UPSTREAM[stage]
    before = {*direct, *(name for upstream in direct for name in all_before(upstream))}
    return [name for name in STAGES if name in before]
