"""The seeds of rounds: of all random choices of an experiment's rounds, and of a client's steps."""

from __future__ import annotations

from stockpot.seeding import derive_seed


def rounds_seed(seed: int) -> int:
    """Return the seed of shards, participants and initial weights, from an experiment's seed."""
    return derive_seed("rounds", seed) % 2**31


def client_seed(seed: int, number: int, client: int) -> int:
    """Return the seed of the local steps of one client in one round.

    Args:
        seed: of the rounds.
        number: the round, from 1.
        client: from 0.
    """
    return derive_seed(seed, "client", number, client) % 2**31
