"""Who takes part: the same in every process, each client at its own rate."""

from __future__ import annotations

import pytest

from stockpot.soups.rounds.participation import participants


def test_equal_seeds_and_rounds_have_equal_participants() -> None:
    p = (0.3, 0.5, 0.9)

    assert [participants(7, n, p) for n in range(9)] == [participants(7, n, p) for n in range(9)]
    assert len({participants(7, n, p) for n in range(30)}) > 3
    assert [participants(8, n, p) for n in range(9)] != [participants(7, n, p) for n in range(9)]


def test_each_client_has_its_own_rate() -> None:
    p = (0.0, 0.1, 0.6, 1.0)
    rounds = [participants(0, number, p) for number in range(4000)]

    rates = [sum(client in each for each in rounds) / 4000 for client in range(4)]

    assert rates == pytest.approx(p, abs=0.03)
    assert (rates[0], rates[3]) == (0.0, 1.0)
