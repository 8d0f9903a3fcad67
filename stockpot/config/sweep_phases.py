"""The field `sweep.phases` of params.yaml: phases of pruning, retraining and averaging."""

from __future__ import annotations

from pydantic import Field

from stockpot.yaml_files import Fraction, Section


class PhaseSection(Section):
    """A phase of sparse model soups: the model is pruned and retrained several times.

    The average of a phase's models is pruned in the next one; those of the last phase are the
    ingredients. The models of all phases get their hyperparameters from `sweep.space`.
    """

    sparsity: Fraction = Field(
        description="share of the weights, the smallest of the model that the phase starts from, "
        "that become 0 and stay 0; above that of the phase before"
    )
    models: int | None = Field(None, ge=1, description="retrainings; null: sweep.size")
    epochs: int | None = Field(
        None, ge=1, description="of each retraining; null: those of sweep.space"
    )
