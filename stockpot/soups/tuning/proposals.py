"""From the parameters of a trial to a merge, and from known soups to parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stockpot.soups.tuning.merge import Merge
from stockpot.soups.tuning.method_space import MethodSpace
from stockpot.soups.tuning.search import SearchContext
from stockpot.soups.tuning.tensor_groups import Groups

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


@dataclass(frozen=True, slots=True)
class Proposals:
    """The merges that a study may propose.

    Attributes:
        spaces: by method, what is searched of it.
        groups: the groups of tensors with values of their own.
        num_models: M.
    """

    spaces: Mapping[str, MethodSpace]
    groups: Groups
    num_models: int

    @property
    def is_conditional(self) -> bool:
        """Whether the parameters depend on the method, which is a parameter then."""
        return len(self.spaces) > 1

    def propose(self, trial: BaseTrial) -> Merge:
        """Ask a trial for a merge."""
        method, *others = self.spaces
        if others:
            method = trial.suggest_categorical("method", [*self.spaces])
        space = self.spaces[method]
        values = {
            group: space.ask(trial, self._prefix(method, group), self.num_models)
            for group in self.groups
        }
        coefficients, options = next(iter(values.values()))
        return Merge(method, coefficients, options, self._rules(method, values))

    def _rules(
        self, method: str, values: Mapping[str, tuple[tuple[float, ...], Mapping[str, Any]]]
    ) -> tuple[Any, ...]:
        if len(self.groups) == 1:
            return ()
        from stockpot.merging.name_rules import NameRule

        own = self.spaces[method].weight is not None
        return tuple(
            NameRule(pattern, None, method, values[group][1], values[group][0] if own else ())
            for group, patterns in self.groups.items()
            for pattern in patterns
        )

    def starts(self, context: SearchContext) -> dict[str, dict[str, Any]]:
        """Return the parameters of known soups by name.

        These are the uniform, the greedy and the best single soup with the default options of each
        method; where no coefficients are searched, these defaults alone.
        """
        every = range(self.num_models)
        weighted: dict[str, Sequence[int]] = {"uniform": every}
        if any(space.weight is not None for space in self.spaces.values()):
            weighted |= {"greedy": _greedy(context), "best single": context.order[:1]}
        return {
            self._named(method, source): self._start(method, members)
            for method, space in self.spaces.items()
            for source, members in (
                {"defaults": every} if space.weight is None else weighted
            ).items()
        }

    def _start(self, method: str, members: Sequence[int]) -> dict[str, Any]:
        made: dict[str, Any] = {"method": method} if self.is_conditional else {}
        for group in self.groups:
            prefix = self._prefix(method, group)
            made |= self.spaces[method].start(prefix, members, self.num_models)
        return made

    def _named(self, method: str, source: str) -> str:
        return f"{method} {source}" if self.is_conditional else source

    def _prefix(self, method: str, group: str) -> str:
        of_method = f"{method} " if self.is_conditional else ""
        return f"{of_method}{group} " if len(self.groups) > 1 else of_method


def _greedy(context: SearchContext) -> list[int]:
    """Return the members of the greedy soup of all ingredients."""
    from stockpot.soups.selection.greedy import greedy

    return [*greedy(context.candidates).members]
