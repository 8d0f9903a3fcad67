"""How models are merged: a method, coefficients, options, and the seed of what it draws."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.merging.method import Method, method_of
from stockpot.merging.registry import METHODS
from stockpot.merging.runs import Run

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.draws import Draws
    from stockpot.merging.runs import Runs


@dataclass(frozen=True, slots=True)
class OfModel:
    """What was measured of whole models, by a method whose scope they are.

    Attributes:
        measured: the method's own.
        starts: name of a tensor -> position of its first entry in the model.
    """

    measured: Any
    starts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How models are merged.

    Attributes:
        method: a registered merge method, by name.
        coefficients: one a model, in their order; methods that take none leave them aside.
        options: the method's own, by name.
        seed: of methods that draw random numbers.
        model_ids: names the models for those draws, so that a model's share of them does not
            depend on which others take part; by default their positions.
        side_information: for methods that take it, one mapping a model, from a tensor's name to
            what is known of it; a tensor that is not in it has none.
        of_model: what was measured of the whole models; None where tensors are by themselves.
    """

    method: str
    coefficients: tuple[float, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    model_ids: tuple[str, ...] = ()
    side_information: tuple[Mapping[str, Any], ...] = ()
    of_model: OfModel | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        merge: Callable[..., Tensor],
        coefficients: tuple[float, ...],
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Recipe:
        """Return the recipe of a built-in method, given as its function.

        Code that always uses one method imports it this way, so that the method's code is part of
        the keys of what that code makes.
        """
        return cls(method_of(merge.__name__, merge).name, coefficients, options)

    def check(self, *, has_base: bool) -> None:
        """Refuse what the method cannot do, before anything is read.

        Raises:
            InputError: the method is unknown, or cannot merge so.
        """
        self.method_itself.check(self.coefficients, has_base=has_base, options=self.options)

    def merge(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:
        """Merge the tensors called `name`, in float32 or wider, by the method.

        Raises:
            InputError: the method cannot merge them.
        """
        if self.of_model is not None:
            flat_base = None if base is None else base.reshape(-1)
            run = Run(0, [tensor.reshape(-1) for tensor in tensors], flat_base)
            return self.merge_run(name, run, self.of_model.measured).view(tensors[0].shape)
        method, draws = self.method_itself, self.draws(name)
        side = [known.get(name) for known in self.side_information]
        try:
            return method(tensors, self.coefficients, base, draws, self.options, side)
        except ValueError as error:
            raise InputError(f"tensor {name!r}: {error}") from error

    def measured(self, name: str, runs: Runs) -> Any:
        """Measure what the method must know of the whole tensors called `name`."""
        if self.of_model is not None:
            return self.of_model.measured
        return self.method_itself.measured(runs, self.draws(name), self.options)

    def merge_run(self, name: str, run: Run, measured: Any) -> Tensor:
        """Merge a run of the tensors called `name`; as with `merge`."""
        method, draws = self.method_itself, self.draws(name)
        if self.of_model is not None:
            run = replace(run, start=run.start + self.of_model.starts[name])
        try:
            return method.merge_run(run, self.coefficients, draws, measured, self.options)
        except ValueError as error:
            raise InputError(f"tensor {name!r}: {error}") from error

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
        drawn = []
        for position, model_id in enumerate(ids):
            occurrence = ids[:position].count(model_id)
            text = f"{self.seed}\n{name}\n{model_id}\n{occurrence}"
            digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
            drawn.append(Draws(int.from_bytes(digest, "big")))
        return drawn


RecipeOf = Callable[[str], Recipe]
"""Name of a tensor -> how it is merged."""
