"""AdaMerging, with its options in params.yaml; the algorithm is in `adamerging`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from stockpot.soups.tuning.search import Found, SearchContext, trials_of


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropySearch:
    """AdaMerging: coefficients of task vectors that minimize the entropy on val; no labels."""

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
    def study(self) -> dict[str, Any]:
        """All settings: no search continues another."""
        return self.recipe

    @property
    def recipe(self) -> dict[str, Any]:
        """The search in the form of manifests; it adapts on the inputs that it is scored on."""
        head = {"search": "entropy", "method": self._method, "adapts_on": "val"}
        own = asdict(self)
        del own["density"]
        options = {"options": self._elected} if self._elected else {}
        return {**head, "objectives": ["val"], **own, **options}

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
        val = context.unlabelled(self.batch_size)
        merged = merge_adaptively(
            mixture,
            val.batches,
            val.class_entropy,
            start=self.init,
            learning_rate=self.learning_rate,
            steps=self.steps,
        )
        trials = trials_of(
            merged.passes,
            lambda rows: context.score_weights(mixture.weights(rows)),
            f"{self.init:g} each",
        )
        details = {
            "chosen": merged.best.number,
            "class_entropy": [done.class_entropy for done in merged.passes],
            "is_collapsed": merged.is_collapsed,
            "front": [],
        }
        rows, options = merged.best.rows, self._elected or {}
        return Found(self._method, self.per, rows, trials, details, options)
