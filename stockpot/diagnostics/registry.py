"""All diagnostics by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.subjects import Subjects

DIAGNOSTICS: Mapping[str, Callable[[Subjects], Finding]] = MappingProxyType({})
