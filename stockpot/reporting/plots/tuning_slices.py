"""A study by Optuna: its first objective against each parameter, the most important ones first."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import limits, new_figure, score_axis, without_worst
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import INK, QUIET
from stockpot.reporting.results import ModelEntry, Results
from stockpot.reporting.words.objectives import objective_label, objective_unit

_MOST = 9  # panels
_COLUMNS = 3
_LOG_RATIO = 8  # of the ends of an axis that is logarithmic


@plot(
    title="Tuning slices",
    caption=(
        "Scores on val or val shifts, not on test. The share is that of the parameter in the "
        "variance of the scores (fANOVA), the other parameters averaged out; the dark mark is the "
        "trial that was chosen."
    ),
    description="Small plots: the score of each trial against the value of one parameter.",
    left_out="Left out: no study by Optuna has run.",
)
def tuning_slices(study: ModelEntry, results: Results) -> Figure | None:
    """Draw one panel per parameter, the most important first; None without parameters.

    Args:
        study: from the tune manifest.
        results: the run, for the unit of the scores.
    """
    trials = [trial for trial in study["trials"] if trial.get("parameters")]
    shown = _parameters(study, trials)
    if not shown:
        return None
    objective = study["recipe"]["objectives"][0]
    unit = objective_unit(objective, results)
    values = [trial["values"][0] for trial in trials]
    best = trials[study["chosen"]]
    num_rows = -(-len(shown) // _COLUMNS)
    figure = new_figure(0.5 + 1.7 * num_rows)
    panels = figure.subplots(num_rows, _COLUMNS, sharey=True, squeeze=False).flat
    for axes, name in zip(panels, shown, strict=False):
        axes.set_ylim(*limits(without_worst(values, objective)))
        _draw_slice(axes, name, trials, best, unit)
        share = study.get("importances", {}).get(name)
        axes.set_title(_title(name, study) + ("" if share is None else f" ({share:.0%})"))
    for axes in [*panels][len(shown) :]:
        axes.set_visible(False)
    figure.supylabel(objective_label(objective, results.unit.metric))
    return figure


def _parameters(study: ModelEntry, trials: list[ModelEntry]) -> list[str]:
    """Return the names of the parameters to draw."""
    shares = study.get("importances", {})
    names = dict.fromkeys(name for trial in trials for name in trial["parameters"])
    return sorted(names, key=lambda name: -shares.get(name, 0.0))[:_MOST]


def _draw_slice(
    axes: Axes, name: str, trials: list[ModelEntry], best: ModelEntry, unit: Unit
) -> None:
    points = [(t["parameters"][name], t["values"][0]) for t in trials if name in t["parameters"]]
    x, y = zip(*points, strict=True)
    if all(isinstance(one, bool | str) for one in x):
        x = tuple(map(str, x))
    elif min(x) > 0 and max(x) / min(x) > _LOG_RATIO and not name.rpartition(" ")[2].isdigit():
        axes.set_xscale("log")
    hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": QUIET}
    axes.plot(x, y, "o", markersize=3.5, **hollow)
    if name in best["parameters"]:
        place = best["parameters"][name]
        is_text = isinstance(place, bool | str)
        axes.plot([str(place) if is_text else place], best["values"][:1], "D", color=INK)
    score_axis(axes.yaxis, unit, 4)


def _title(name: str, study: ModelEntry) -> str:
    """Name the ingredient of a coefficient, whose parameter has its place, best first."""
    start, _, place = name.rpartition(" ")
    if start.endswith("weight") and place.isdigit():
        return shorten(f"{start.removesuffix('weight')}{study['order'][int(place)]}", 22)
    return shorten(name, 22)
