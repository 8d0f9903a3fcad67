"""Search and merge, with its options in params.yaml; the algorithm is in `bilevel`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from stockpot.soups.tuning.search import Found, SearchContext, trial_json


@dataclass(frozen=True, slots=True, kw_only=True)
class BilevelSearch:
    """Search and merge: ingredients train on one half of train, coefficients on the other."""

    trains = True

    per: Annotated[
        Literal["model", "layer", "tensor"],
        Field(description="each has its own coefficient for each ingredient"),
    ] = "layer"
    epochs: Annotated[
        int, Field(ge=1, description="the best on val is used; it may be the start")
    ] = 5
    batch_size: Annotated[int, Field(ge=1, description="of each half")] = 32
    learning_rate: Annotated[float, Field(ge=0, description="of Adam, for coefficients")] = 0.05
    weights_rate: Annotated[
        float, Field(ge=0, description="learning rate of SGD, for the weights of ingredients")
    ] = 0.01
    sampling: Annotated[
        Literal["darts", "drnas", "gdas"],
        Field(
            description="softmax; samples from a Dirichlet; one sampled ingredient for each `per`"
        ),
    ] = "darts"

    @property
    def recipe(self) -> dict[str, Any]:
        """The search in the form of manifests."""
        return {"search": "bilevel", "method": "linear", "objectives": ["val"], **asdict(self)}

    study = recipe  # all settings: no search continues another

    def find(self, context: SearchContext) -> Found:
        """Train weights and coefficients in turn; val chooses the epoch."""
        from stockpot.soups.tuning.bilevel import search_and_merge
        from stockpot.soups.tuning.samplings import SAMPLINGS

        best, epochs = search_and_merge(
            context.mixture(self.per),
            context.halves_of_train(self.batch_size),
            context.score_weights,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weights_rate=self.weights_rate,
            sampling=SAMPLINGS[self.sampling](context.seed),
        )
        trials = [
            trial_json(epoch.number, (epoch.score,), "epoch" if epoch.number else "uniform")
            for epoch in epochs
        ]
        details = {
            "chosen": best.number,
            "losses": [[epoch.weights_loss, epoch.coefficients_loss] for epoch in epochs[1:]],
            "front": [],
        }
        return Found("linear", self.per, best.rows, trials, details, weights=best.weights)
