"""Random masks by the rank of magnitudes in rows, drawn without ranking all entries.

The leading bits of a random number decide for nearly all ranks, and whether the rank of an entry is
among the others shows a comparison with the row's sorted magnitudes. Sorting magnitudes alone takes
a third of the time of sorting them with their positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.methods.brackets import numpy_bits
from stockpot.merging.methods.task_vectors import order_of, probabilities_by_rank

_ONE_BY_ONE = 4  # entries per row; ranking these alone takes as long as ranking all


def kept_by_rank(rows: Tensor, density: float, epsilon: float, draws: Draws) -> NDArray[np.bool_]:
    """Decide at random which entries of rows are kept, as by `keep_probabilities`.

    Args:
        rows: whole rows, (rows, row), float32 or float64.
        density: mean probability, in (0, 1).
        epsilon: as for `keep_probabilities`; below `density` and `1 - density`.
        draws: one random number per entry.

    Returns:
        Whether each entry is kept, flat; any value for entries that are 0.
    """
    if not rows.numel():
        return np.empty(0, np.bool_)
    bits = numpy_bits(rows.contiguous())
    num_rows, length = bits.shape
    # Times 256, which is exact: then the leading 8 bits of the numbers are before the point.
    by_rank = 256 * probabilities_by_rank(rows, density, epsilon).double().cpu().numpy()
    whole = np.minimum(by_rank, 255).astype(np.uint8)  # the largest may be rounded to 1
    leading = draws.leading(bits.size).reshape(bits.shape)
    kept = leading < whole[0]
    matters = leading - whole[0] <= whole[-1] - whole[0]  # whether the rank does
    places = np.flatnonzero(matters)
    in_row = np.count_nonzero(matters, axis=1)
    own, digits = bits.take(places), leading.take(places)

    above_all = np.iinfo(bits.dtype).max
    ascending = np.full((num_rows, length + 1), above_all, bits.dtype)
    ascending[:, :length] = bits
    ascending[:, :length].sort(axis=-1)
    starts = np.repeat(np.arange(num_rows) * (length + 1), in_row)
    # With these leading bits, entries are kept from one rank on, and dropped before another one.
    first, above = (np.searchsorted(whole, np.arange(256), side) for side in ("left", "right"))
    is_kept = own > ascending.take(starts + above.take(digits))
    is_open = own >= ascending.take(starts + first.take(digits))
    kept.reshape(-1)[places] = is_kept

    opened = np.flatnonzero(is_open & ~is_kept & (own > 0))
    places = places.take(opened)
    further = np.floor(draws.further(places) * 2.0**45) / 2.0**45  # so that the sum is exact
    limits = np.searchsorted(by_rank, digits.take(opened) + further, "right")
    flat: NDArray[np.bool_] = kept.reshape(-1)
    flat[places] = _have_ranks(rows, bits, ascending, places, limits)
    return flat


def _have_ranks(
    rows: Tensor,
    bits: NDArray[Any],
    ascending: NDArray[Any],
    places: NDArray[np.int64],
    limits: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return whether entries have at least these ranks in their rows."""
    own, starts = bits.take(places), places // bits.shape[-1] * ascending.shape[-1]
    others = ascending.take(starts + limits)
    found: NDArray[np.bool_] = own >= others
    # An entry equal to that of the rank may itself have a lower one, if others are equal as well.
    tied = (own == others) & (limits > 0)
    tied &= ascending.take(starts + np.maximum(limits - 1, 0)) == own
    (which,) = tied.nonzero()
    found[which] = _ranks(rows, bits, places.take(which)) >= limits.take(which)
    return found


def _ranks(rows: Tensor, bits: NDArray[Any], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ranks of some entries in their rows; of equal ones, the first is the lowest."""
    length = bits.shape[-1]
    if len(places) > _ONE_BY_ONE * len(bits):  # many are equal
        ranks = torch.empty(rows.shape, dtype=torch.int64)
        evenly = torch.arange(length).expand(rows.shape)
        ranks.scatter_(-1, order_of(rows).cpu(), evenly)
        found: NDArray[np.int64] = ranks.reshape(-1)[torch.from_numpy(places)].numpy()
        return found
    of_rows, own = bits[places // length], bits.take(places)[:, None]
    is_before = of_rows == own
    is_before &= np.arange(length) < (places % length)[:, None]
    is_before |= of_rows < own
    numbers: NDArray[np.int64] = np.count_nonzero(is_before, axis=1)
    return numbers
