"""Recipes: a merge method, coefficients, options, and the seed of random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.merging.lines import LINES, scaled
from stockpot.merging.masks import Masks, masked
from stockpot.merging.method import Method, method_of
from stockpot.merging.registry import METHODS
from stockpot.merging.runs import Run, Runs

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.draws import Draws


@dataclass(frozen=True, slots=True)
class OfModel:
    """Measurements of whole models, for methods with scope `model`.

    Attributes:
        measured: the result of the method's `measure`.
        starts: name of a tensor -> position of its first entry in the model.
    """

    measured: Any
    starts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A merge method with all its arguments.

    Attributes:
        method: name of a registered merge method, or `module:function`.
        coefficients: one per model, in their order; ignored by methods that take none.
        options: options of the method, by name; of those that may differ between models, one
            value or a tuple of one per model.
        seed: seed of methods that draw random numbers.
        model_ids: identify the models for random numbers, so that those of a model do not depend
            on the other models; by default their positions.
        side_information: for methods that take it, one mapping per model, from tensor names to
            values; tensors that are missing have none.
        of_model: measurements of the whole models; None if tensors are measured one by one.
        metric: by which symmetric positive definite tensors are averaged, instead of the method.
        masks: which entries of weights may differ from 0, if those of the models do not agree.
        depth: of the tensor in the model, from 0 to 1, for a scale that varies with it; None if it
            is unknown.
    """

    method: str
    coefficients: tuple[float, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    model_ids: tuple[str, ...] = ()
    side_information: tuple[Mapping[str, Any], ...] = ()
    of_model: OfModel | None = field(default=None, compare=False)
    metric: str | None = None
    masks: Masks | None = None
    depth: float | None = None

    @classmethod
    def of(
        cls,
        merge: Callable[..., Tensor],
        coefficients: tuple[float, ...],
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Recipe:
        """Return the recipe of a method, given as its function.

        Code that always uses one method imports its function, so that the method's code is part
        of the keys of the results.
        """
        return cls(method_of(merge.__name__, merge).name, coefficients, options)

    def check(self, *, has_base: bool) -> None:
        """Check that the method can merge by this recipe, before anything is read.

        Raises:
            InputError: the method is unknown or cannot.
        """
        self.method_itself.check(self.coefficients, has_base=has_base, options=self.options)

    def check_names(self, names: Collection[str]) -> None:
        """Check that the method can merge models whose tensors have these names.

        Raises:
            InputError: it cannot.
        """
        check = self.method_itself.check_names
        try:
            if check is not None:
                check(names, self.options)
        except ValueError as error:
            raise InputError(str(error)) from error

    @property
    def shares(self) -> list[float]:
        """The coefficients of averages, such as those of BatchNorm statistics."""
        return self.method_itself.shares(self.coefficients, self.options)

    @property
    def varies_with_depth(self) -> bool:
        """Whether it needs the depth of its tensor."""
        return self._lines[1] != 0

    @property
    def _lines(self) -> tuple[float, float]:
        """Alpha and beta of LiNeS."""
        alpha, beta = (self.options.get(name, default) for name, default in LINES.items())
        return (alpha, beta) if self.method_itself.needs_base else (1.0, 0.0)

    def _scaled(self, merged: Tensor, base: Tensor | None) -> Tensor:
        alpha, beta = self._lines
        if beta != 0 and self.depth is None:
            raise ValueError(f"{self.method}: lines_beta needs the depth of the tensor, got none")
        return scaled(merged, base, alpha + beta * (self.depth or 0.0))

    @property
    def is_elementwise(self) -> bool:
        """Whether big tensors can be merged in parts."""
        return self.metric is None and self.method_itself.is_elementwise

    def row(self, shape: Sequence[int]) -> int | None:
        """Return the number of entries of a row, if parts of tensors must be of whole rows."""
        method = self.method_itself
        return method.row_length and method.row_length(shape, {**method.options, **self.options})

    def merge(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:
        """Merge the tensors called `name`, in float32 or wider, by the method.

        Raises:
            InputError: the method cannot merge them.
        """
        if self.of_model is not None:
            runs = Runs.of(tensors, base)
            whole = runs.read(0, runs.size)
            return self.merge_run(name, whole, self.of_model.measured).view(tensors[0].shape)
        method, draws = self.method_itself, self.draws(name)
        side = [known.get(name) for known in self.side_information]
        try:
            if self.metric is not None:
                from stockpot.merging.methods.spd_means import spd_mean

                return spd_mean(tensors, self.coefficients, self.metric)
            merged = method(tensors, self.coefficients, base, draws, self.options, side, name=name)
            merged = self._scaled(merged, base)
            return masked(name, merged, tensors, self.masks)
        except ValueError as error:
            raise InputError(f"tensor {name!r}: {error}") from error

    def measured(self, name: str, runs: Runs) -> Any:
        """Measure the whole tensors called `name`, if the method needs it."""
        if self.of_model is not None:
            return self.of_model.measured
        return self.method_itself.measured(runs, self.draws(name), self.options)

    def merge_run(self, name: str, run: Run, measured: Any) -> Tensor:
        """Merge a run of the tensors called `name`; as with `merge`."""
        method, draws = self.method_itself, self.draws(name)
        if self.of_model is not None:
            run = replace(run, start=run.start + self.of_model.starts[name])
        try:
            merged = method.merge_run(run, self.coefficients, draws, measured, self.options)
            merged = self._scaled(merged, run.base)
            return masked(name, merged, run.tensors, self.masks)
        except ValueError as error:
            raise InputError(f"tensor {name!r}: {error}") from error

    def of_members(self, members: Sequence[int]) -> Recipe:
        """Return the recipe for some of the models, by their positions."""
        if len(members) == len(self.coefficients):
            return self
        ids = self.model_ids or tuple(map(str, range(len(self.coefficients))))
        return replace(
            self,
            coefficients=tuple(self.coefficients[member] for member in members),
            model_ids=tuple(ids[member] for member in members),
            options={
                name: tuple(value[m] for m in members) if isinstance(value, tuple) else value
                for name, value in self.options.items()
            },
        )

    @property
    def method_itself(self) -> Method:
        """The registered method."""
        return METHODS[self.method]

    def draws(self, name: str) -> list[Draws]:
        """Return the random numbers for the tensor called `name`, one per model, if used."""
        from stockpot.merging.draws import Draws

        if not self.method_itself.is_random:
            return []
        ids = self.model_ids or tuple(str(position) for position in range(len(self.coefficients)))
        # A model that is merged twice is drawn for anew.
        texts = [f"{self.seed}\n{name}\n{one}\n{ids[:n].count(one)}" for n, one in enumerate(ids)]
        digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
        return [Draws(int.from_bytes(digest, "big")) for digest in digests]


RecipeOf = Callable[[str], Recipe]
"""Name of a tensor -> its recipe."""
