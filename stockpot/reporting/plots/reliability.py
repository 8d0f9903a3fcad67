"""Reliability diagram: accuracy against confidence, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.reporting.plots.axes import legend_below, mark, percent_axis, side_panels
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import INK
from stockpot.reporting.results import Manifest
from stockpot.reporting.words.estimates import percent

_PANELS = {"bins": "as trained or merged", "scaled": "after temperature scaling on val"}


@plot(
    title="Reliability",
    caption=(
        "On the dashed line, accuracy equals confidence; below it, a model is overconfident. "
        "The right panel is after temperature scaling, fitted on val, which changes no "
        "prediction. Larger marks hold more examples."
    ),
    description=(
        "Accuracy against confidence in bins, before and after temperature scaling. On "
        "the dashed line accuracy equals confidence; larger marks hold more examples."
    ),
    left_out="Left out: the calibration of the models was not evaluated.",
)
def reliability(evaluation: Manifest) -> Figure | None:
    """Draw one line per model through its confidence bins; None without bins.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, figure 1.
    """
    binned: Mapping[str, Any] = evaluation.get("reliability", {})
    series = [one for one in main_series(evaluation) if one.model["name"] in binned]
    if not series:
        return None
    figure, panels = side_panels(3.9, _PANELS.values(), sharex=True, sharey=True)
    for axes, name in zip(panels, _PANELS, strict=True):
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        for one in series:
            _draw(axes, one, [bin_ for bin_ in binned[one.model["name"]][name] if bin_["count"]])
        axes.set_xlabel("confidence")
        percent_axis(axes.xaxis, 5)
        percent_axis(axes.yaxis, 5)
    panels[0].set_ylabel("accuracy on test")
    legend_below(figure, panels[0])
    return figure


def _draw(axes: Axes, series: Series, bins: Sequence[Mapping[str, float]]) -> None:
    confidences = [bin_["confidence"] for bin_ in bins]
    accuracies = [bin_["accuracy"] for bin_ in bins]
    axes.plot(confidences, accuracies, color=series.colour, linewidth=1.1, alpha=0.6)
    total = sum(bin_["count"] for bin_ in bins)
    for bin_ in bins:
        text = f"confidence {percent(bin_['confidence'])}, accuracy {percent(bin_['accuracy'])}"
        note = f"{series.model['name']}: {text}, {bin_['count']:,} examples"
        point, size = (bin_["confidence"], bin_["accuracy"]), 3 + 8 * (bin_["count"] / total) ** 0.5
        mark(axes, point, series.look, size, note, label=series.label)
