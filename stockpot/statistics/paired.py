"""Paired tests of two models on the same examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, gammaln

from stockpot.statistics.values import Floats, is_right_or_wrong, snapped

_FLIPS = 9999  # of the Monte Carlo test; the smallest p is 1 / (_FLIPS + 1)
_LAST_BITS = 1e-10  # relative to the sum of sizes: sums that differ by less are equal
_MAX_SIZES = 16  # distinct sizes of differences in the exact test
_MAX_SUMS = 2**20  # in memory in the exact test
_MAX_SIGNS = 2**22  # drawn at once in the Monte Carlo test


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The result of a paired test.

    Attributes:
        test: `mcnemar`, or `sign flips` for values other than 0 and 1.
        p: two-sided, in (0, 1].
        n: number of examples.
        won: number of examples on which the model is better than the reference.
        lost: number of examples on which it is worse.
    """

    test: str
    p: float
    n: int
    won: int
    lost: int


def paired_test(values: Floats, reference: Floats, *, seed: int) -> PairedTest:
    """Test whether a model differs from a reference, by per-example values of both (N,).

    Args:
        values: the model's; higher is better.
        reference: the reference's, of the same examples in the same order.
        seed: of random sign flips.

    Raises:
        ValueError: the numbers of examples differ.
    """
    if values.shape != reference.shape:
        raise ValueError(
            f"a paired test needs one value per example of both models, got {len(values)} and "
            f"{len(reference)}"
        )
    scale = max(np.abs(values).max(), np.abs(reference).max())
    differences = snapped(values - reference, scale)
    won, lost = int((differences > 0).sum()), int((differences < 0).sum())
    if is_right_or_wrong(values) and is_right_or_wrong(reference):
        return PairedTest("mcnemar", mcnemar(won, lost), len(values), won, lost)
    p = sign_flips(differences, seed=seed)
    return PairedTest("sign flips", p, len(values), won, lost)


def mcnemar(won: int, lost: int) -> float:
    """Return the two-sided p of McNemar's exact test.

    Args:
        won: number of examples that only one model has right.
        lost: number of examples that only the other one has right.

    Source: McNemar 1947, https://doi.org/10.1007/BF02295996, with the binomial instead of the
    normal distribution.
    """
    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5)))


def sign_flips(differences: Floats, *, seed: int) -> float:
    """Return the two-sided p of a mean difference by flipping the signs of the differences.

    It is exact if the possible sums can be enumerated: for few examples, or differences on a
    grid, such as means over shifts. Else it uses 9,999 random flips and the observed one.

    Args:
        differences: per-example differences of two models, (N,).
        seed: of the random flips.

    Source: Fisher 1935, The Design of Experiments, section 21; for random flips Phipson and Smyth
    2010, https://doi.org/10.2202/1544-6115.1585.
    """
    decided = differences[differences != 0]
    if len(decided) == 0:
        return 1.0
    exact = _exact(decided)
    return _random(decided, seed) if exact is None else exact


def _exact(decided: Floats) -> float | None:
    """Return the share of signs whose sum is at least the observed one; None for too many sums.

    Differences of equal size are flipped together: the number of positive ones is binomial. Sums
    that differ in their last bits only are merged.
    """
    sums: Floats = np.zeros(1)
    shares: Floats = np.ones(1)
    last_bits = _LAST_BITS * np.abs(decided).sum()
    sizes, counts = np.unique(np.abs(decided), return_counts=True)
    if len(sizes) > _MAX_SIZES:
        return None
    for size, count in zip(sizes, counts, strict=True):
        positive = np.arange(count + 1)
        if len(sums) * len(positive) > _MAX_SUMS:
            return None
        longer = (sums[:, None] + size * (2 * positive - count)).ravel()  # sums so far x count + 1
        weights = (shares[:, None] * _coin_shares(int(count))).ravel()
        order = np.argsort(longer)
        is_new = np.diff(longer[order], prepend=-np.inf) > last_bits
        sums = longer[order][is_new]
        shares = np.add.reduceat(weights[order], np.flatnonzero(is_new))
    is_as_large = np.abs(sums) >= abs(decided.sum()) - last_bits
    return min(1.0, float(shares[is_as_large].sum()))


def _coin_shares(count: int) -> Floats:
    """Return the probabilities of 0 to `count` heads of `count` fair coins."""
    heads = np.arange(count + 1)
    ways = gammaln(count + 1) - gammaln(heads + 1) - gammaln(count - heads + 1)
    return np.asarray(np.exp(ways - count * np.log(2)))


def _random(decided: Floats, seed: int) -> float:
    generator = np.random.default_rng([seed, len(decided)])
    seen = abs(decided.sum()) - _LAST_BITS * np.abs(decided).sum()
    num_blocks = -(-_FLIPS * len(decided) // _MAX_SIGNS)
    as_large = 0
    for block in np.array_split(np.arange(_FLIPS), num_blocks):
        random_bytes = generator.bytes(len(block) * -(-len(decided) // 8))
        packed = np.frombuffer(random_bytes, np.uint8).reshape(len(block), -1)
        is_positive = np.unpackbits(packed, axis=1, count=len(decided))  # (flips, decided)
        sums = 2 * (is_positive @ decided) - decided.sum()
        as_large += int((np.abs(sums) >= seen).sum())
    return (as_large + 1) / (_FLIPS + 1)
