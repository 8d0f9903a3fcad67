"""Learned soup, with its options in params.yaml; the algorithm is in `learned`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stockpot.soups.tuning.search import Found, SearchContext, trials_of


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSearch:
    """Learned soup: coefficients by gradient on one half of val, chosen on the other half."""

    tasks: ClassVar[Sequence[str]] = ("classification", "regression")

    per: Annotated[
        Literal["model", "layer", "tensor"],
        Field(description="each has its own coefficient for each ingredient"),
    ] = "layer"
    epochs: Annotated[
        int, Field(ge=1, description="the best epoch is used; it may be the start")
    ] = 5
    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0, description="of AdamW")] = 0.05
    sampling: Annotated[
        Literal["darts", "drnas", "gdas"],
        Field(
            description="softmax; samples from a Dirichlet; one sampled ingredient for each `per`"
        ),
    ] = "darts"
    leader: Annotated[
        Literal["none", "max_w"],
        Field(
            description="max_w: the largest coefficient of each `per` draws no further weight to "
            "itself; not for gdas, whose samples have one coefficient"
        ),
    ] = "none"

    def __post_init__(self) -> None:
        """Refuse options that do not fit together.

        Raises:
            ValueError: a leader among coefficients of which only one is not 0.
        """
        if self.leader != "none" and self.sampling == "gdas":
            raise ValueError(f"leader: must be none with sampling gdas, got {self.leader!r}")

    @property
    def recipe(self) -> dict[str, Any]:
        """The search in the form of manifests."""
        options = asdict(self)
        if self.leader == "none":
            del options["leader"]
        return {"search": "gradient", "method": "linear", "objectives": ["val"], **options}

    study = recipe  # all settings: no search continues another

    def find(self, context: SearchContext) -> Found:
        """Fit coefficients to the loss on val."""
        from stockpot.soups.tuning.learned import learn_coefficients
        from stockpot.soups.tuning.samplings import SAMPLINGS, MaxW

        sampling = SAMPLINGS[self.sampling](context.seed)
        mixture, val = context.mixture(self.per), context.labelled(self.batch_size)
        best, epochs = learn_coefficients(
            mixture,
            val,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            sampling=MaxW(sampling) if self.leader == "max_w" else sampling,
        )
        trials = trials_of(context, mixture, (epoch.rows for epoch in epochs), "uniform")
        details = {
            "inverse_temperature": best.beta,
            "chosen": best.number,
            "folds": [
                {"number": e.number, "score": e.score, "loss": e.loss, "fit_loss": e.fit_loss}
                for e in epochs
            ],
            "front": [],
        }
        return Found("linear", self.per, best.rows, trials, details)
