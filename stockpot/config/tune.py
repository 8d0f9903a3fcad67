"""The section `tune` of params.yaml: searches for coefficients, of three kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from stockpot.yaml_files import Name, Section


class _Search(Section):
    name: Name
    top_k: int | None = Field(None, ge=2, description="mix only the k best on val; null: all")


class OptunaTuning(_Search):
    """Coefficients tried one after another by Optuna, scored on val."""

    search: Literal["optuna"] = Field("optuna", description="by default")
    objectives: Sequence[Literal["val", "val_shift"]] = Field(
        ("val",), min_length=1, max_length=2, description="what to raise; two give a Pareto front"
    )
    sampler: Literal["tpe", "gp", "cmaes", "nsga2", "random"] = "tpe"
    trials: int = Field(60, ge=1)

    @model_validator(mode="after")
    def _objectives_fit_the_sampler(self) -> OptunaTuning:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives must differ, got {list(self.objectives)}")
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise ValueError("sampler 'cmaes' takes one objective, got two; use 'nsga2' or 'tpe'")
        return self


class GradientTuning(_Search):
    """Learned soup: coefficients by gradient on one half of val, chosen on the other half."""

    search: Literal["gradient"] = Field(description="learned soup")
    per: Literal["model", "layer", "tensor"] = Field(
        "layer", description="what has a coefficient of its own, besides each ingredient"
    )
    epochs: int = Field(5, ge=1, description="the best one counts; it may be the start")
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(0.05, gt=0, description="of AdamW")
    sampling: Literal["darts", "drnas", "gdas"] = Field(
        "darts", description="softmax; draws from a Dirichlet; one drawn ingredient for each `per`"
    )


class EntropyTuning(_Search):
    """AdaMerging: coefficients of task vectors that make predictions on val sure; no labels."""

    search: Literal["entropy"] = Field(description="AdaMerging")
    per: Literal["model", "layer"] = Field(
        "layer", description="what has a coefficient of its own, besides each ingredient"
    )
    init: float = Field(
        0.3, ge=0, le=1, description="every coefficient at first; 1/ingredients: the uniform soup"
    )
    steps: int = Field(500, ge=1, description="batches")
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    density: float | None = Field(
        None,
        gt=0,
        le=1,
        description="AdaMerging++: the share of each task vector that is kept, the largest entries "
        "where they have the elected sign; null: all",
    )


def _with_search(content: Any) -> Any:
    """Make Optuna the search of a section that names none."""
    return {"search": "optuna", **content} if isinstance(content, dict) else content


TuneSection = Annotated[
    Annotated[OptunaTuning | GradientTuning | EntropyTuning, Field(discriminator="search")],
    BeforeValidator(_with_search),
]
