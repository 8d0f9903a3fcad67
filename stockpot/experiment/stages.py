"""The stages of an experiment in order, and the stages that each one reads from."""

from __future__ import annotations

STAGES = ("base", "sweep", "soups", "tune", "diagnose", "evaluate", "report")

# The stages whose manifests a stage reads; the same dependencies are in dvc.yaml.
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
    """Return the stages that a stage depends on, directly or indirectly, in order."""
    direct = UPSTREAM[stage]
    before = {*direct, *(name for upstream in direct for name in all_before(upstream))}
    return [name for name in STAGES if name in before]
