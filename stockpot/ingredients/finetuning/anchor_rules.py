"""Whether an anchor fits the workload and the other techniques of a run; imports no torch."""

from __future__ import annotations

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.workloads.protocol import Workload, compares_responses


def check_anchor(how: Hyperparameters, workload: Workload) -> None:
    """Check that the anchor of a run fits the workload and the other techniques.

    Raises:
        InputError: it does not.
    """
    holds_weights = compares_with_anchor(how) and how.anchor_loss == "l2"
    if how.adapter != "none" and (how.start_l2 or holds_weights):
        raise InputError(
            "anchor_loss and start_l2: distances of weights need adapter none, got "
            f"{how.adapter!r}; take anchor_loss kl and start_l2 0"
        )
    if not compares_with_anchor(how) or how.anchor_loss == "l2":
        return
    if how.anchor_loss in ("dpo", "bandit"):
        _check_replaced_loss(how, workload)
    if workload.task == "language_model" and not has_logits(workload):
        raise InputError(
            f"anchor_loss: {how.anchor_loss} needs the logits of a language model, and the "
            "workload has no methods logits and token_losses; add them, or take l2"
        )


def compares_with_anchor(how: Hyperparameters) -> bool:
    """Whether the loss of a run depends on its anchor."""
    replaces_loss = how.anchor_loss in ("bandit", "dpo")
    return how.anchor != "none" and (replaces_loss or how.anchor_weight > 0)


def has_logits(workload: Workload) -> bool:
    """Whether a language model gives logits, and losses of tokens for them, in one pass."""
    return all(hasattr(workload, name) for name in ("logits", "token_losses"))


def _check_replaced_loss(how: Hyperparameters, workload: Workload) -> None:
    """Check an anchor whose loss takes the place of the workload's."""
    for name, needed in (("anchor_data", "train"), ("bag_size", 1)):
        if (found := getattr(how, name)) != needed:
            raise InputError(
                f"{name}: must be {needed} for anchor_loss {how.anchor_loss}, got {found}"
            )
    if how.anchor_loss == "dpo":
        _check_preferences(how, workload)
    elif workload.task != "classification":
        raise InputError(
            "anchor_loss: bandit needs a workload whose task is classification, got "
            f"{workload.task!r}; take kl"
        )


def _check_preferences(how: Hyperparameters, workload: Workload) -> None:
    if not compares_responses(workload):
        raise InputError(
            "anchor_loss: dpo needs a workload of preferences, such as preferences, got "
            f"{type(workload).__name__}; take kl"
        )
    if not how.anchor_weight:
        raise InputError("anchor_weight: must be above 0 for anchor_loss dpo, got 0")
