"""All diagnostics by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from stockpot.diagnostics.barriers import barriers
from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.contributions import contributions
from stockpot.diagnostics.diversity import diversity
from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.geometry import geometry
from stockpot.diagnostics.gradient_groups import gradient_groups
from stockpot.diagnostics.loss_plane import loss_plane
from stockpot.diagnostics.regime import regime
from stockpot.diagnostics.similarity import similarity
from stockpot.diagnostics.soup_size import soup_size

DIAGNOSTICS: Mapping[str, Callable[[DiagnosticContext], Finding]] = MappingProxyType(
    {
        "barriers": barriers,
        "similarity": similarity,
        "gradient_groups": gradient_groups,
        "loss_plane": loss_plane,
        "geometry": geometry,
        "regime": regime,
        "diversity": diversity,
        "contributions": contributions,
        "soup_size": soup_size,
    }
)
