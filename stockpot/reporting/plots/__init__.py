"""The plots of the report, one file each; every function returns one <svg> element, or None."""

from stockpot.reporting.plots.differences import differences
from stockpot.reporting.plots.greedy_path import greedy_path
from stockpot.reporting.plots.id_vs_shift import id_vs_shift
from stockpot.reporting.plots.pareto_front import pareto_front
from stockpot.reporting.plots.shifts import shifts
from stockpot.reporting.plots.tuning_history import tuning_history

__all__ = [
    "differences",
    "greedy_path",
    "id_vs_shift",
    "pareto_front",
    "shifts",
    "tuning_history",
]
