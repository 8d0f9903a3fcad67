"""The section `tokenizer` of a merge file: the tokens of the output and the source of their rows.

Fields, defaults and rules are those of mergekit's `tokenizer`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field, field_validator, model_validator

from stockpot.yaml_files import Section

_OF_MODEL = "model:"


class ModelToken(Section):
    """The row of one token of a model, whichever token it is for."""

    kind: Literal["model_token"]
    model: str = Field(description="one of the models, or the base")
    token: str | None = None
    token_id: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _names_one_token(self) -> ModelToken:
        if (self.token is None) == (self.token_id is None):
            raise ValueError(
                f"must have either token or token_id, got {self.token!r} and {self.token_id!r}"
            )
        return self


class ZeroRow(Section):
    """A row of zeros."""

    kind: Literal["zero"]


class TokenSection(Section):
    """The source of one token's rows."""

    source: str | ModelToken | ZeroRow | None = Field(
        None, description="a model that has the token, or a row of one; null: as of other tokens"
    )
    force: bool = Field(False, description="also in models that have the token")

    @model_validator(mode="after")
    def _forces_something(self) -> TokenSection:
        if self.force and self.source is None:
            raise ValueError("force needs a source, got none")
        return self


class TokenizerSection(Section):
    """The tokenizer of the output."""

    source: str = Field(
        "union",
        description="base: of the base, without one the first model, or that of config_from; "
        "union: the same, and all tokens of the other models; or a model",
    )
    tokens: dict[str, TokenSection] = Field({}, description="the rows of single tokens, by token")
    pad_to_multiple_of: int | None = Field(
        None, ge=1, description="of the number of rows; null: as many as tokens"
    )

    @field_validator("source")
    @classmethod
    def _without_prefix(cls, source: str) -> str:
        return source.removeprefix(_OF_MODEL)

    @property
    def source_model(self) -> str | None:
        """The model that the tokenizer is taken from; None for `base` and `union`."""
        return None if self.source in ("base", "union") else self.source

    @property
    def named_models(self) -> list[str]:
        """The models that the section names."""
        sources = [token.source for token in self.tokens.values()]
        named = [one.model if isinstance(one, ModelToken) else one for one in sources]
        return [one for one in (self.source_model, *named) if isinstance(one, str)]

    def renamed(self, name_of: Callable[[str], str]) -> TokenizerSection:
        """Return the section with the name of each model replaced."""

        def changed(token: TokenSection) -> TokenSection:
            source = token.source
            if isinstance(source, ModelToken):
                source = source.model_copy(update={"model": name_of(source.model)})
            elif isinstance(source, str):
                source = name_of(source)
            return token.model_copy(update={"source": source})

        tokens = {name: changed(token) for name, token in self.tokens.items()}
        source = self.source if self.source_model is None else name_of(self.source)
        return self.model_copy(update={"source": source, "tokens": tokens})
