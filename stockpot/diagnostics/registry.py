"""The diagnostics by name, in the order of the report: one line per diagnostic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stockpot.diagnostics.finding import diagnostic_of
from stockpot.plugins import Registry

if TYPE_CHECKING:
    from stockpot.diagnostics.context import DiagnosticContext
    from stockpot.diagnostics.finding import Finding

DIAGNOSTICS: Registry[Callable[[DiagnosticContext], Finding]] = Registry(
    "diagnostic",
    {
        "barriers": "stockpot.diagnostics.barriers:barriers",
        "similarity": "stockpot.diagnostics.similarity:similarity",
        "gradient_groups": "stockpot.diagnostics.gradient_groups:gradient_groups",
        "loss_plane": "stockpot.diagnostics.loss_plane:loss_plane",
        "geometry": "stockpot.diagnostics.geometry:geometry",
        "regime": "stockpot.diagnostics.regime:regime",
        "diversity": "stockpot.diagnostics.diversity:diversity",
        "contributions": "stockpot.diagnostics.contributions:contributions",
        "soup_size": "stockpot.diagnostics.soup_size:soup_size",
    },
    diagnostic_of,
)
