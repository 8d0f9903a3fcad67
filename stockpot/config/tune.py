"""The section `tune` of params.yaml: searches for merge coefficients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from stockpot.config.custom_choices import accept_options, section_by_name
from stockpot.soups.tuning.registry import SEARCHES
from stockpot.soups.tuning.search import Search
from stockpot.yaml_files import Name, Section

_DEFAULT = next(iter(SEARCHES))


class TuneRecipe(Section):
    """A tuned soup: ingredients to mix, and the search for their coefficients."""

    name: Name
    top_k: int | None = Field(
        None, ge=1, description="use only the k best on val; null: all; 2 for slerp, for example"
    )
    search: str

    @property
    def settings(self) -> dict[str, Any]:
        """The search's options."""
        return {name: getattr(self, name) for name in SEARCHES[self.search].options}

    def build(self) -> Search:
        """Return the search.

        Raises:
            ValueError: its options do not fit together, or are not for so many ingredients.
        """
        settings = self.settings
        lists = {name: tuple(value) for name, value in settings.items() if isinstance(value, list)}
        search = SEARCHES[self.search].build(**settings | lists)
        least, most = getattr(search, "num_models", (2, None))
        if self.top_k is None and most is not None:
            raise ValueError(f"top_k: must be {most} for a method that merges {most}, got null")
        if self.top_k is not None and not least <= self.top_k <= (most or self.top_k):
            limit = f"{least}" if least == most else f"at least {least}"
            raise ValueError(f"top_k: must be {limit}, got {self.top_k}")
        return search


class _BuiltInTuning(TuneRecipe):
    @model_validator(mode="after")
    def _options_fit_together(self) -> _BuiltInTuning:
        self.build()
        return self


class CustomTuning(TuneRecipe, extra="allow"):
    """A search of your own for coefficients; its options are further fields."""

    search: str = Field(pattern=r"^[\w.]+:\w+$", description="module:function")

    @model_validator(mode="after")
    def _search_accepts_the_options(self) -> CustomTuning:
        accept_options(self, SEARCHES[self.search].options)
        return self


def _with_search(content: Any) -> Any:
    """Add the default search to a section that names none."""
    return {"search": _DEFAULT, **content} if isinstance(content, dict) else content


if TYPE_CHECKING:
    TuneSection = TuneRecipe
else:
    _ByName = section_by_name("search", SEARCHES, lambda _: _BuiltInTuning, CustomTuning, _DEFAULT)
    TuneSection = Annotated[_ByName, BeforeValidator(_with_search)]
