"""The stages of an experiment, in order, and whose models each one reads."""

from __future__ import annotations

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


def all_before(stage: str) -> list[str]:
    """List the stages that a stage's results depend on, directly or not, in order."""
    direct = UPSTREAM[stage]
    before = {*direct, *(name for upstream in direct for name in all_before(upstream))}
    return [name for name in STAGES if name in before]
