"""State dicts: the tensors of a model by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

State: TypeAlias = Mapping[str, Tensor]
"""A state dict that is only read."""

StateDict: TypeAlias = dict[str, Tensor]
"""A state dict of its own, which may be changed."""
