from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest

from stockpot.config.diagnose import DIAGNOSTIC_NAMES
from stockpot.reporting.figures import ReportFigures, diagnostic_sections, plot_module
from stockpot.reporting.html import render_report
from stockpot.reporting.plots.plot import Plot
from stockpot.reporting.results import Results

OWN = {
    "sentence": "All ingredients are wide.",
    "metrics": {"mean_width": 0.125},
    "data": {"widths": [0.1, 0.15]},
    "alerts": [],
}


@pytest.mark.parametrize("name", DIAGNOSTIC_NAMES)
def test_every_built_in_diagnostic_has_a_plot_with_its_name(name: str) -> None:
    module = plot_module(name)

    assert module is not None
    plot = getattr(importlib.import_module(module), name)
    assert isinstance(plot, Plot)
    assert all((plot.title, plot.caption, plot.description))


def test_sections_keep_the_order_of_the_findings(judged: Results) -> None:
    turned = replace(judged, diagnostics=dict(reversed(judged.diagnostics.items())))

    assert [section.name for section in diagnostic_sections(judged)] == ["barriers", "soup_size"]
    assert [section.name for section in diagnostic_sections(turned)] == ["soup_size", "barriers"]


def test_a_section_has_the_sentence_and_the_alerts(judged: Results) -> None:
    first, _ = diagnostic_sections(judged)

    assert first.sentence == "What barriers says: all but one ingredient lie in one basin."
    assert first.alerts == ("ingredient-03: a loss barrier of 2.31 nats to all others",)


@pytest.mark.parametrize("name", DIAGNOSTIC_NAMES)
def test_a_finding_without_data_has_a_title_and_no_figure(judged: Results, name: str) -> None:
    [section] = diagnostic_sections(replace(judged, diagnostics={name: OWN | {"data": {}}}))

    assert section.figure.title
    assert section.figure.svg is None


def test_a_users_own_diagnostic_is_shown_with_its_sentence_and_numbers(
    judged: Results, experiment: dict[str, Any]
) -> None:
    results = replace(judged, diagnostics={"my_module:valley_width": OWN})

    [section] = diagnostic_sections(results)
    page = render_report(results, experiment, figures=ReportFigures([], [section]))

    assert (section.figure.title, section.figure.svg) == ("Valley width", None)
    assert "<h3>Valley width</h3>" in page
    assert "All ingredients are wide." in page
    assert '<td data-value="0.125">0.125</td>' in page


@pytest.mark.parametrize("name", ["svg-", "../figures", "my_module:barriers"])
def test_other_names_have_no_built_in_plot(name: str) -> None:
    assert plot_module(name) is None
