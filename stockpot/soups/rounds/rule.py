"""A rule of rounds: how clients correct their gradients, and how their models are merged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from stockpot.errors import InputError
from stockpot.plugins import Option, options_of

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.states import State, StateDict

_EMPTY: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Correction:
    """The direction of a client's steps: `scale` times its gradient, plus `offset`.

    Attributes:
        scale: factor on the gradient, in (0, 1].
        offset: by name of a weight; a weight without one is not shifted.
    """

    scale: float = 1.0
    offset: State = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Round:
    """One round, after the clients' local steps.

    Attributes:
        number: from 1.
        seed: of random choices.
        num_clients: number of all clients, N.
        start: the model at the start of the round; all tensors of its state dict.
        models: per participant, in ascending order, its model after the local steps. A client
            whose training diverged is not a participant.
        num_examples: per participant, the size of its shard.
        path: learning rate times number of local steps, the length of a client's way.
        memory: what the rule remembers for all clients; empty at the start.
        own: what it remembers per client; empty at the start.
    """

    number: int
    seed: int
    num_clients: int
    start: State
    models: Mapping[int, State]
    num_examples: Mapping[int, int]
    path: float
    memory: State = field(default_factory=lambda: _EMPTY)
    own: Mapping[int, State] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a round.

    Attributes:
        weights: the merged model.
        memory: what the rule remembers for all clients.
        own: what it remembers per client; only clients for whom it has changed.
        shares: the weight of each participant's change, for the record.
    """

    weights: StateDict
    memory: StateDict = field(default_factory=dict)
    own: Mapping[int, StateDict] = field(default_factory=dict)
    shares: Mapping[int, float] = field(default_factory=dict)


class RoundRule(Protocol):
    """A rule; its options are the keyword-only arguments of its constructor.

    Attributes:
        needs_sgd: whether the rule is only right for plain SGD, whose steps sum to the gradients.
        has_server: whether all clients start from one model; else each keeps its own.
    """

    needs_sgd: bool
    has_server: bool

    def correction(self, memory: State, own: State) -> Correction:
        """Return the correction of one client's gradients in the next round.

        Args:
            memory: what the rule remembers for all clients; empty in the first round.
            own: what it remembers for this client; empty before its first round.
        """
        ...

    def start_of(self, start: State, own: State) -> State:
        """Return the model that a client starts from: the merged one, unless it keeps its own."""
        ...

    def merge(self, done: Round) -> Merged:
        """Merge the models of at least one participant."""
        ...

    def without_participants(self, done: Round) -> Merged:
        """Return the result of a round in which no client took part."""
        ...


class ServerRule:
    """The base of rules with a server, from whose model all clients start."""

    needs_sgd = False
    has_server = True

    def correction(self, memory: State, own: State) -> Correction:  # noqa: ARG002 (of subclasses)
        """Return no correction."""
        return Correction()

    def start_of(self, start: State, own: State) -> State:  # noqa: ARG002 (of subclasses)
        """Return the server's model."""
        return start

    def without_participants(self, done: Round) -> Merged:
        """Return the model and the memory unchanged."""
        return Merged(dict(done.start), dict(done.memory))


@dataclass(frozen=True, slots=True)
class RuleKind:
    """A rule that can be built with options.

    Attributes:
        build: options by name -> the rule; raises ValueError if one is out of its range.
        options: what `build` takes.
        summary: the first line of its documentation.
    """

    build: Callable[..., RoundRule]
    options: Mapping[str, Option] = field(hash=False)
    summary: str


def rule_kind_of(place: str, found: Callable[..., Any]) -> RuleKind:
    """Return a class as a kind of rule.

    Raises:
        InputError: it is not a class with the members of `RoundRule`.
    """
    members = ("needs_sgd", "has_server", "correction", "start_of", "merge", "without_participants")
    missing = [name for name in members if not hasattr(found, name)]
    if missing or not isinstance(found, type):
        raise InputError(
            f"rule of rounds {place!r}: must be a class with the members of "
            f"stockpot.soups.rounds.rule.RoundRule, lacks {missing}"
        )
    summary = (inspect.getdoc(found) or "").partition("\n")[0]
    return RuleKind(found, options_of(f"rule of rounds {place!r}", found), summary)
