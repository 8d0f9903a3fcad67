"""The search space of a sweep: a distribution, or a constant, per hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import field_validator, model_validator

from stockpot.config.hyperparameter_fields import OfferedField, offered_fields, with_fields
from stockpot.distributions.fields import as_distribution, names_field, number_field
from stockpot.distributions.values import Choice, Constant, Distribution
from stockpot.ingredients.finetuning.hyperparameters import TECHNIQUES, Value
from stockpot.ingredients.points import Point
from stockpot.yaml_files import Section

_OFFERED = offered_fields("space")


def _type_of(field: OfferedField) -> Any:
    if not field.is_number:
        return names_field(field.name, field.kind)
    numbers = number_field(field.value_type)
    return numbers | None if field.default is None else numbers


@with_fields(_OFFERED, _type_of)
class SpaceSection(Section):
    """The hyperparameters of ingredients: each a distribution to draw from, or a constant."""

    @model_validator(mode="before")
    @classmethod
    def _something_is_searched(cls, content: Any) -> Any:
        if content == {}:
            raise ValueError("is empty; name at least one hyperparameter")
        return content

    @field_validator("*")
    @classmethod
    def _values_are_possible(cls, field: Any, info: Any) -> Any:
        offered = _OFFERED[info.field_name]
        if field is not None and offered.is_number:
            offered.check_range(as_distribution(field))
        return field

    @model_validator(mode="after")
    def _least_rate_is_below_the_peak(self) -> SpaceSection:
        axes = self.distributions()
        floor, peak = axes.get("min_lr"), axes.get("learning_rate")
        if floor is None or peak is None or isinstance(peak, Constant):
            return self
        highest = float(floor.value) if isinstance(floor, Constant) else floor.bounds()[1]
        if highest > (lowest := peak.bounds()[0]):
            raise ValueError(
                f"min_lr: must be at most the lowest learning_rate, {lowest:g}, got {highest:g}"
            )
        return self

    @staticmethod
    def checked_point(point: Mapping[str, Value]) -> Point:
        """Return hyperparameters as numbers and names; names that are unknown stay.

        Raises:
            ValueError: a hyperparameter cannot have its value.
        """
        return {
            name: _OFFERED[name].checked(value) if name in _OFFERED else value
            for name, value in point.items()
        }

    def names(self, field: str) -> tuple[Value, ...]:
        """Return the names that a hyperparameter which is no number may have."""
        axis = self.distributions()[field]
        assert isinstance(axis, Constant | Choice), f"{field} is a number"
        return axis.values()

    def distributions(self) -> dict[str, Distribution]:
        """Return a distribution per hyperparameter.

        A constant number is a dimension of the search (a choice of one) where every run has the
        hyperparameter: if it becomes an interval later, the others keep their values. A constant
        technique is no dimension, so a new technique leaves the points of older spaces unchanged.
        """
        fields = {name: getattr(self, name) for name in _OFFERED}
        return {
            name: Constant(value)
            if name in TECHNIQUES and not isinstance(value, Section)
            else as_distribution(value)
            for name, value in fields.items()
            if value is not None
        }
