"""Random samples of sets, by name: `val[256]` are 256 examples of `val`, always the same ones.

Importing this module imports no torch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stockpot.seeding import seeded_generator

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLE = re.compile(r"(?P<whole>.+)\[(?P<size>\d+)\]")


def sample_of(set_name: str, size: int) -> str:
    """Return the name of a sample of a set."""
    return f"{set_name}[{size}]"


def whole_and_size(name: str) -> tuple[str, int | None]:
    """Return the name of the whole set, and the size of the sample; None for a whole set."""
    match = _SAMPLE.fullmatch(name)
    return (match["whole"], int(match["size"])) if match else (name, None)


def sample_indices(num_examples: int, size: int) -> Tensor:
    """Draw the examples of a sample, (size,), ascending; copies of a set have the same ones."""
    import torch

    order = torch.randperm(num_examples, generator=seeded_generator("sample", num_examples))
    return order[:size].sort().values
