"""How models are merged: a method, coefficients, options, and the seed of what it draws."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError, unknown_name
from stockpot.merging.registry import METHODS, Method

if TYPE_CHECKING:
    from torch import Generator, Tensor


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
    """

    method: str
    coefficients: tuple[float, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    model_ids: tuple[str, ...] = ()

    def check(self, *, has_base: bool) -> None:
        """Refuse what the method cannot do, before anything is read.

        Raises:
            InputError: the method is unknown, or cannot merge so.
        """
        self._method().check(self.coefficients, has_base=has_base, options=self.options)

    def merge(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:
        """Merge the tensors called `name`, in float32 or wider, by the method.

        Raises:
            InputError: the method cannot merge them.
        """
        method = self._method()
        generators = self._generators(name) if method.is_random else []
        try:
            return method(tensors, self.coefficients, base, generators, self.options)
        except ValueError as error:
            raise InputError(f"tensor {name!r}: {error}") from error

    def _method(self) -> Method:
        if self.method not in METHODS:
            raise unknown_name("merge method", self.method, METHODS)
        return METHODS[self.method]

    def _generators(self, name: str) -> list[Generator]:
        """Return a generator a model, on the CPU, for the tensor called `name`."""
        import torch

        ids = self.model_ids or tuple(str(position) for position in range(len(self.coefficients)))
        generators = []
        for position, model_id in enumerate(ids):
            occurrence = ids[:position].count(model_id)
            text = f"{self.seed}\n{name}\n{model_id}\n{occurrence}"
            digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
            generators.append(torch.Generator().manual_seed(int.from_bytes(digest, "big")))
        return generators
