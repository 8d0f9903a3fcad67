"""The stages of an experiment, in order: the stages that each one reads, and its help."""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """A stage, whose flow is in `flows/<name>.py`.

    Attributes:
        reads: the stages whose manifests it reads, which are its dependencies in dvc.yaml.
        help: of its command.
        example: a command line; square brackets after a backslash, since rich would take them for
            markup.
    """

    reads: tuple[str, ...]
    help: str
    example: str


MODEL_STAGES = ("base", "sweep", "soups", "tune")
"""The stages that make models."""

STAGES = {
    "base": Stage(
        (),
        "Pretrain the base, the model that every ingredient is fine-tuned from.",
        "stockpot base --set base.epochs=40",
    ),
    "sweep": Stage(
        ("base",),
        "Fine-tune the ingredients that do not exist yet, several at a time.",
        "stockpot sweep --set sweep.size=20",
    ),
    "soups": Stage(
        ("sweep",),
        "Select ingredients by their val scores and merge them: one soup per recipe.",
        r"stockpot soups --set 'soups=\[{name: top3, select: top_k, k: 3}]'",
    ),
    "tune": Stage(
        ("sweep",),
        "Search merge coefficients on val. An interrupted search by Optuna is continued.",
        "stockpot tune --set tune.0.trials=200",
    ),
    "diagnose": Stage(
        MODEL_STAGES,
        "Analyse ingredients and soups (barriers, similarity, contributions) on train and val.",
        r"stockpot diagnose --set 'diagnose=\[barriers, soup_size]'",
    ),
    "evaluate": Stage(
        MODEL_STAGES,
        "Score all models on test and the test shifts, with confidence intervals.",
        "stockpot evaluate --set evaluate.bootstrap=10000",
    ),
    "report": Stage(
        (*MODEL_STAGES, "diagnose", "evaluate"),
        "Write results/report.html.",
        "stockpot report && xdg-open results/report.html",
    ),
}

UPSTREAM = {name: stage.reads for name, stage in STAGES.items()}


def all_before(stage: str) -> list[str]:
    """Return the stages that a stage depends on, directly or indirectly, in order."""
    direct = UPSTREAM[stage]
    before = {*direct, *(name for upstream in direct for name in all_before(upstream))}
    return [name for name in STAGES if name in before]
