"""The report: one HTML page that needs nothing but itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from stockpot.atomic_files import write_text
from stockpot.reporting import grids
from stockpot.reporting.protocol import protocol, settings
from stockpot.reporting.results import Results
from stockpot.reporting.verdict import caveat, ensemble_sentence, headline, verdicts


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure of the page, or the sentence that stands in its place."""

    title: str
    caption: str
    svg: str | None


def write_report(
    path: Path,
    results: Results,
    experiment: Mapping[str, Any],
    *,
    commands: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
) -> None:
    """Write the report of a run; equal arguments give equal bytes.

    Args:
        path: the HTML file.
        results: the manifests of the run.
        experiment: params.yaml as a plain mapping.
        commands: what reproduces the run, a shell line each.
        links: label to address; only http and https addresses become links, the rest stays text.

    Raises:
        OSError: the file cannot be written; `path` stays as it was.
    """
    write_text(path, render_report(results, experiment, commands=commands, links=links))


def render_report(
    results: Results,
    experiment: Mapping[str, Any],
    *,
    commands: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
) -> str:
    """Return the page that `write_report` writes."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("stockpot.reporting")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = _typeset
    template = environment.get_template("report.html.jinja")
    return template.render(
        title=experiment.get("track", {}).get("experiment", "stockpot"),
        evaluation=results.evaluation,
        headline=headline(results.evaluation),
        verdicts=verdicts(results.evaluation),
        ensemble=ensemble_sentence(results.evaluation),
        caveat=caveat(results.evaluation),
        plots=_plots(results),
        fronts=[study for study in results.tune["tuned"] if study["front"]],
        num_failed=len(results.sweep["failed"]),
        grids=grids,
        results=results,
        protocol=protocol(results, experiment),
        settings=settings(experiment),
        commands=commands,
        links=links or {},
    )


def _typeset(sentence: str) -> str:
    """Put real minus signs, and no line break before a percent sign."""
    return re.sub(r"(?<=[ (])-(?=\d)", "\N{MINUS SIGN}", sentence).replace(
        " %", "\N{NO-BREAK SPACE}%"
    )


def _plots(results: Results) -> list[Plot]:
    from stockpot.reporting import plots

    evaluation = results.evaluation
    no_shifts = "Left out: the experiment has no test shifts."
    compared = plots.differences(evaluation)
    scatter, bars = plots.id_vs_shift(evaluation), plots.shifts(evaluation)
    return [
        Plot("Difference to the best ingredient", _DIFFERENCES if compared else _NO_SOUP, compared),
        Plot("Test against shift", _SCATTER if scatter else no_shifts, scatter),
        Plot("Score by shift", _BARS if bars else no_shifts, bars),
        *_greedy_plots(results),
        *_pareto_plots(results),
        *_tuning_plots(results),
    ]


def _greedy_plots(results: Results) -> list[Plot]:
    from stockpot.reporting.plots import greedy_path

    metric = results.evaluation["metric"]
    shown = [
        Plot(f"Path of {soup['name']}", _GREEDY, greedy_path(soup, metric, number))
        for number, soup in enumerate(results.soups["soups"], start=1)
        if soup["steps"]
    ]
    return shown or [Plot("Path of greedy", "Left out: no soup was made greedily.", None)]


def _pareto_plots(results: Results) -> list[Plot]:
    from stockpot.reporting.plots import pareto_front

    shown = [
        Plot(f"Pareto front of {study['name']}", _PARETO, pareto_front(study, results, number))
        for number, study in enumerate(results.tune["tuned"], start=1)
        if len(study["recipe"]["objectives"]) > 1
    ]
    return shown or [Plot("Pareto front", "Left out: no study had two objectives.", None)]


def _tuning_plots(results: Results) -> list[Plot]:
    from stockpot.reporting.plots import tuning_history

    metric = results.evaluation["metric"]
    shown = [
        Plot(f"History of {study['name']}", _HISTORY, tuning_history(study, metric, number))
        for number, study in enumerate(results.tune["tuned"], start=1)
        if study["trials"]
    ]
    return shown or [Plot("Tuning history", "Left out: no coefficients were tuned.", None)]


_NO_SOUP = "Left out: no soup was compared with the best ingredient."
_DIFFERENCES = (
    "Both models on the same examples. An interval that does not touch the line at 0 is a "
    "difference that this test set can show; one that does touch it is not proof of equality."
)
_SCATTER = (
    "Up and to the right is better. Crosses are the intervals of the main models. A soup above the "
    "cloud of ingredients keeps more of its score under shift than they do."
)
_BARS = "Bars stand in the order of the legend; the lines on them are intervals."
_GREEDY = (
    "Ingredients from the best on val to the worst, tried one after the other. One is kept when "
    "the soup with it scores at least as well on val."
)
_PARETO = (
    "Scores on val, not on test. Nothing below and left of the line is worth having: some "
    "trial is at least as good in both."
)
_HISTORY = "Scores on val, not on test. The search starts from the larger marks."
