"""Rules of params.yaml and merge files for tensors that are merged in another way."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from stockpot.errors import InputError
from stockpot.merging.signature_layers import SIGNATURES
from stockpot.yaml_files import Section


class RuleSection(Section):
    """A rule for tensors whose names match: a metric, or another merge method."""

    match: str = Field(min_length=1, description="pattern of tensor names, such as *.covariance")
    metric: Literal["riemann", "logeuclid"] | None = Field(
        None, description="for symmetric positive definite tensors: their mean on the manifold"
    )
    method: str | None = Field(None, description="or a merge method, without side information")
    options: dict[str, int | float | bool | str] = Field({}, description="the method's own")
    coefficients: list[float] = Field(
        [], description="one per model, in their order; []: those of the other tensors"
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out empty coefficients, so that older pedigrees do not change."""
        content: dict[str, Any] = handler(self)
        return {name: v for name, v in content.items() if v or name != "coefficients"}

    @model_validator(mode="after")
    def _says_one_way(self) -> RuleSection:
        if (self.metric is None) == (self.method is None):
            raise ValueError(
                f"must have either metric or method, got metric {self.metric!r} and method "
                f"{self.method!r}"
            )
        if self.method is None:
            if self.options:
                raise ValueError(f"options are of a method, got {self.options} with a metric")
            return self
        from stockpot.merging.recipe import Recipe
        from stockpot.merging.registry import METHODS

        method = METHODS[self.method]
        if self.method == SIGNATURES:
            raise InputError(
                f"rules: {SIGNATURES} is not for single tensors, whose models have roles"
            )
        if method.side_information is not None:
            raise InputError(
                f"rules: {self.method} needs {method.side_information}, which rules cannot give; "
                "use it as the method of the soup"
            )
        if method.run_coefficients is not None:
            raise InputError(
                f"rules: {self.method} merges checkpoints in the order of their run, which other "
                "methods do not keep; use it as the method of the soup"
            )
        least = max(2, method.num_models[0])
        Recipe(self.method, (1.0,) * least, self.options).check(has_base=True)
        return self

    @property
    def built(self) -> Any:
        """The rule, as `stockpot.merging.name_rules.NameRule`."""
        from stockpot.merging.name_rules import NameRule

        return NameRule(
            self.match, self.metric, self.method, self.options, tuple(self.coefficients)
        )
