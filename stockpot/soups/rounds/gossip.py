"""Gossip learning without a server, with variance-corrected averages.

Tian et al. 2024, https://arxiv.org/abs/2404.04616.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stockpot.seeding import derive_seed
from stockpot.soups.rounds.rule import Correction, Merged, Round

if TYPE_CHECKING:
    from stockpot.merging.states import State, StateDict


@dataclass(frozen=True, kw_only=True)
class Gossip:
    """Gossip: each client averages its model with those of a few others; there is no server.

    A client that takes part trains its own model, gets those of random other participants, and
    keeps the average, whose weights are rescaled about their mean: the average of uncorrelated
    models has too small a variance. The result of the rounds is the average over the clients that
    have taken part, rescaled to their mean variance.

    Attributes:
        peers: models that a client gets per round; all participants if there are fewer.
        variance: what the average is rescaled to: the mean variance of the averaged models
            (others), the variance of the client's own (self), a mixture (mixed), or none.
        own_share: of variance: mixed; the share of the client's own variance, in [0, 1].
        eps: added to both variances before they are compared; 1e-4 in the authors' code.
        min_ndim: tensors of fewer axes are averaged and not rescaled.
    """

    peers: int = 1
    variance: Literal["others", "self", "mixed", "none"] = "others"
    own_share: float = 0.5
    eps: float = 1e-12
    min_ndim: int = 2
    needs_sgd = False
    has_server = False

    def __post_init__(self) -> None:
        if self.peers < 1:
            raise ValueError(f"peers must be at least 1, got {self.peers!r}")
        if not 0 <= self.own_share <= 1:
            raise ValueError(f"own_share must be in [0, 1], got {self.own_share!r}")
        if not self.eps >= 0:
            raise ValueError(f"eps must be at least 0, got {self.eps!r}")

    def correction(self, memory: State, own: State) -> Correction:  # noqa: ARG002 (there is none)
        """Return no correction."""
        return Correction()

    def start_of(self, start: State, own: State) -> State:
        """Return the client's own model, which is the common one before its first round."""
        return own or start

    def merge(self, done: Round) -> Merged:
        """Average the model of each participant with those of its peers."""
        own = {client: self._averaged(done, client) for client in done.models}
        known = {**{client: done.own[client] for client in done.own}, **own}
        everyone = [known[client] for client in sorted(known)]
        shares = dict.fromkeys(done.models, 1 / len(done.models))
        return Merged(self._corrected(everyone, own_share=0.0), own=own, shares=shares)

    def without_participants(self, done: Round) -> Merged:
        """Leave everything unchanged."""
        return Merged(dict(done.start))

    def _averaged(self, done: Round, client: int) -> StateDict:
        """Return a client's model after it has heard from its peers."""
        others = [other for other in done.models if other != client]
        draws = random.Random(derive_seed(done.seed, "peers", done.number, client))
        heard = sorted(draws.sample(others, min(self.peers, len(others))))
        share = {"others": 0.0, "self": 1.0, "none": 0.0, "mixed": self.own_share}[self.variance]
        return self._corrected([done.models[one] for one in (client, *heard)], own_share=share)

    def _corrected(self, models: Sequence[State], own_share: float) -> StateDict:
        """Average models, and rescale the weights; the first model is the client's own."""
        from stockpot.merging.engine import merge_states
        from stockpot.merging.methods.linear import linear
        from stockpot.merging.methods.variance_corrected import variance_corrected
        from stockpot.merging.recipe import Recipe

        equal = (1 / len(models),) * len(models)
        if self.variance == "none":
            return merge_states(models, Recipe.of(linear, equal, {}))
        options = {"eps": self.eps, "min_ndim": self.min_ndim, "own_share": own_share}
        return merge_states(models, Recipe.of(variance_corrected, equal, options))
