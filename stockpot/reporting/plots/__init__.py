"""The plots of the report, one file each; every function returns one <svg> element, or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from stockpot.reporting.plots.barriers import barriers
from stockpot.reporting.plots.calibration import calibration
from stockpot.reporting.plots.contributions import contributions
from stockpot.reporting.plots.differences import differences
from stockpot.reporting.plots.diversity import diversity
from stockpot.reporting.plots.geometry import geometry
from stockpot.reporting.plots.gradient_groups import gradient_groups
from stockpot.reporting.plots.greedy_path import greedy_path
from stockpot.reporting.plots.id_vs_shift import id_vs_shift
from stockpot.reporting.plots.loss_plane import loss_plane
from stockpot.reporting.plots.pareto_front import pareto_front
from stockpot.reporting.plots.random_soups import random_soups
from stockpot.reporting.plots.regime import regime
from stockpot.reporting.plots.reliability import reliability
from stockpot.reporting.plots.shifts import shifts
from stockpot.reporting.plots.similarity import similarity
from stockpot.reporting.plots.soup_size import soup_size
from stockpot.reporting.plots.tuning_history import tuning_history
from stockpot.reporting.plots.wise_ft import wise_ft

DIAGNOSTIC_PLOTS: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = MappingProxyType(
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
"""What draws a finding's data, by the diagnostic's name."""

__all__ = [
    "DIAGNOSTIC_PLOTS",
    "calibration",
    "differences",
    "greedy_path",
    "id_vs_shift",
    "pareto_front",
    "random_soups",
    "reliability",
    "shifts",
    "tuning_history",
    "wise_ft",
]
