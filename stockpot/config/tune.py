"""The section `tune` of params.yaml: searches for merge coefficients."""

from __future__ import annotations

import operator
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, create_model, model_validator

from stockpot.config.custom_choices import (
    BUILT_IN,
    CUSTOM,
    by_name,
    checked_options,
    fields_of,
)
from stockpot.soups.tuning.registry import SEARCHES
from stockpot.soups.tuning.search import Search
from stockpot.yaml_files import Name, Section

_DEFAULT = next(iter(SEARCHES))


class TuneRecipe(Section):
    """A tuned soup: ingredients to mix, and the search for their coefficients."""

    name: Name
    top_k: int | None = Field(None, ge=2, description="use only the k best on val; null: all")
    search: str

    @property
    def settings(self) -> dict[str, Any]:
        """The search's options."""
        return {name: getattr(self, name) for name in SEARCHES[self.search].options}

    def build(self) -> Search:
        """Return the search.

        Raises:
            ValueError: its options do not fit together.
        """
        settings = self.settings
        lists = {name: tuple(value) for name, value in settings.items() if isinstance(value, list)}
        return SEARCHES[self.search].build(**settings | lists)


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
        checked = checked_options(self, SEARCHES[self.search].options)
        assert self.__pydantic_extra__ is not None
        self.__pydantic_extra__.update(checked)
        return self


def _section_of(search: str) -> type[TuneRecipe]:
    """Return the section of a built-in search: its options are fields."""
    kind = SEARCHES[search]
    fields: dict[str, Any] = {
        "search": (Literal[search], _DEFAULT if search == _DEFAULT else ...),
        **fields_of(kind.options),
    }
    section: Any = create_model(
        f"{search.title().replace('_', '')}Tuning",
        __base__=_BuiltInTuning,
        __doc__=kind.summary,
        **fields,
    )
    return cast(type[TuneRecipe], section)


def _with_search(content: Any) -> Any:
    """Add the default search to a section that names none."""
    return {"search": _DEFAULT, **content} if isinstance(content, dict) else content


if TYPE_CHECKING:
    TuneSection = TuneRecipe
else:
    _AnyBuiltIn = reduce(operator.or_, map(_section_of, SEARCHES))
    TuneSection = Annotated[
        Annotated[_AnyBuiltIn, Field(discriminator="search"), BUILT_IN]
        | Annotated[CustomTuning, CUSTOM],
        by_name("search"),
        BeforeValidator(_with_search),
    ]
