"""AdaMerging, with its options in params.yaml; the algorithm is in `adamerging`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stockpot.soups.tuning.search import Found, SearchContext, trials_of


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropySearch:
    """AdaMerging: coefficients of task vectors that minimize the entropy on val; no labels."""

    tasks: ClassVar[Sequence[str]] = ("classification",)

    per: Annotated[
        Literal["model", "layer"],
        Field(description="each has its own coefficient for each ingredient"),
    ] = "layer"
    init: Annotated[
        float,
        Field(ge=0, le=1, description="initial coefficients; 1/ingredients is the uniform soup"),
    ] = 0.3
    steps: Annotated[int, Field(ge=1, description="number of batches")] = 500
    batch_size: Annotated[int, Field(ge=1)] = 16
    learning_rate: Annotated[float, Field(gt=0, description="of Adam")] = 1e-3
    density: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="AdaMerging++: fraction of each task vector that is used, the largest "
            "entries where they have the elected sign; null: all",
        ),
    ] = None

    @property
    def recipe(self) -> dict[str, Any]:
        """The search in the form of manifests; it adapts on the inputs that it is scored on."""
        head = {"search": "entropy", "method": self._method, "adapts_on": "val"}
        own = {name: value for name, value in asdict(self).items() if name != "density"}
        options = {"options": self._elected} if self._elected else {}
        return {**head, "objectives": ["val"], **own, **options}

    study = recipe  # all settings: no search continues another

    @property
    def _method(self) -> str:
        return "elected_sum" if self._elected else "task_arithmetic"

    @property
    def _elected(self) -> dict[str, Any] | None:
        return None if self.density is None else {"density": self.density, "scope": "model"}

    def find(self, context: SearchContext) -> Found:
        """Minimize the entropy; labels are read after the search only, to score the trials."""
        from stockpot.soups.tuning.adamerging import merge_adaptively

        mixture = context.mixture(self.per, is_from_base=True, elected=self._elected)
        best, passes = merge_adaptively(
            mixture,
            context.unlabelled(self.batch_size),
            start=self.init,
            learning_rate=self.learning_rate,
            steps=self.steps,
        )
        rows = (done.rows for done in passes)
        trials = trials_of(context, mixture, rows, f"{self.init:g} each")
        details = {
            "chosen": best.number,
            "class_entropy": [done.class_entropy for done in passes],
            "is_collapsed": best is not passes[-1],
            "front": [],
        }
        return Found(self._method, self.per, best.rows, trials, details, self._elected or {})
