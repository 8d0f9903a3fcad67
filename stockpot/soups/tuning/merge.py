"""A merge of the ingredients of a search, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stockpot.merging.name_rules import NameRule


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge of all ingredients by one method.

    Attributes:
        method: the merge method.
        coefficients: one per ingredient, in their order.
        options: of the method.
        rules: groups of tensors that have coefficients and options of their own.
    """

    method: str
    coefficients: tuple[float, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[NameRule, ...] = ()

    @property
    def is_average(self) -> bool:
        """Whether it is one weighted average of all tensors."""
        return self.method == "linear" and not self.rules

    @property
    def shares(self) -> list[float]:
        """The coefficient of each ingredient, the mean over rules and the other tensors."""
        rows = [self.coefficients, *(rule.coefficients for rule in self.rules if rule.coefficients)]
        return [sum(column) / len(rows) for column in zip(*rows, strict=True)]

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the form in manifests, whose fields are those of a soup in params.yaml.

        Args:
            names: of the ingredients, in order.
        """
        content: dict[str, Any] = {
            "method": self.method,
            "members": [*names],
            "coefficients": [*self.coefficients],
        }
        content |= {"options": dict(self.options)} if self.options else {}
        return content | ({"rules": [r.to_json() for r in self.rules]} if self.rules else {})

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Merge:
        """Return the merge that a manifest records."""
        from stockpot.merging.name_rules import NameRule

        rules = tuple(
            NameRule(**rule | {"coefficients": tuple(rule.get("coefficients", ()))})
            for rule in content.get("rules", [])
        )
        return cls(
            content["method"],
            tuple(content["coefficients"]),
            dict(content.get("options", {})),
            rules,
        )
