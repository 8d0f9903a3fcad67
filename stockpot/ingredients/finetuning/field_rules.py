"""Annotations of hyperparameters: their ranges, and the sections of params.yaml that have them."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias


class Rules(dict[str, Any]):
    """Annotation: the range in params.yaml (`ge`, `gt`, `le`, `lt`) and the `default` there."""


class Base(Rules):
    """Annotation: `base` has this hyperparameter too, and what differs there."""


class BaseOnly(Base):
    """Annotation: `base` has this hyperparameter, `sweep.space` has not."""


AtLeast0: TypeAlias = Annotated[float, Rules(ge=0)]
Share: TypeAlias = Annotated[float, Rules(ge=0, le=1)]
ShareBelow1: TypeAlias = Annotated[float, Rules(ge=0, lt=1)]
PositiveShare: TypeAlias = Annotated[float, Rules(gt=0, le=1)]
Count: TypeAlias = Annotated[int, Rules(ge=0)]
PositiveCount: TypeAlias = Annotated[int, Rules(ge=1)]
