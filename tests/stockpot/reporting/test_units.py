"""Reports of a run whose first metric is no fraction: nothing is in percent, or in points."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace

import pytest
from errors_judged import errors_judged
from judged_results import experiment, judged_results
from rich.console import Console

from stockpot.experiment.report_files import table_columns
from stockpot.metric_units import Unit
from stockpot.reporting.compare.compare_page import render_comparison
from stockpot.reporting.compare.run_grids import terminal_table
from stockpot.reporting.compare.runs import Run, Runs
from stockpot.reporting.figures import ReportFigures, draw_figures
from stockpot.reporting.html import render_report
from stockpot.reporting.model_card import model_card
from stockpot.reporting.plots.contributions import contributions
from stockpot.reporting.plots.differences import differences
from stockpot.reporting.plots.id_vs_shift import id_vs_shift
from stockpot.reporting.plots.shifts import shifts
from stockpot.reporting.plots.wise_ft import wise_ft
from stockpot.reporting.results import Results, unit_of
from stockpot.reporting.tables.results_table import results_table
from stockpot.reporting.tables.terminal import render_terminal
from stockpot.reporting.words.verdict import verdicts


@pytest.fixture
def errors() -> Results:
    return errors_judged()


def _printed(table: object) -> str:
    console = Console(width=140, file=io.StringIO(), color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _words(page: str) -> list[str]:
    """Return the texts of a page, of which shares that are no scores are left out."""
    bare = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    texts = html.unescape(re.sub(r"<[^>]+>", "\n", bare))
    texts = texts.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")
    known = r"\d+ % interval|^95 %, bootstrap|^[+-]\d+\.\d+ %\s*$|beats .* % of random"
    return [text for line in texts.splitlines() if (text := re.sub(known, "", line))]


def test_the_unit_is_from_the_manifest_or_for_older_ones_from_the_name(
    errors: Results,
) -> None:
    older = judged_results().evaluation

    assert not unit_of(errors.evaluation).is_fraction
    assert 1 < unit_of(errors.evaluation).size < 3
    assert unit_of(older) == Unit("accuracy")
    assert unit_of(older, "ece_scaled").is_fraction
    assert unit_of(older, "nll_scaled").score(0.1234) == "0.123"
    assert not unit_of(older | {"is_fraction": {"accuracy": False}}).is_fraction


def test_a_verdict_is_in_the_metric(errors: Results) -> None:
    sentence = verdicts(errors.evaluation)[0].sentence

    assert re.search(r": \+\d\.\d{3} in minus_error \(95 % interval \+\d\.\d{3} to ", sentence)
    assert not any("points" in verdict.sentence for verdict in verdicts(errors.evaluation))


def test_the_terminal_table_says_so_too(errors: Results) -> None:
    printed = _printed(render_terminal(results_table(errors.evaluation), errors.evaluation))

    assert "minus_error in its own unit, [95 % interval]" in printed
    assert "- best: difference to the best ingredient" in printed
    test = errors.evaluation["models"][0]["metrics"]["test/minus_error"]
    assert f" {test:.3f} [" in printed


def test_no_text_of_the_report_has_a_score_in_percent_or_in_points(errors: Results) -> None:
    page = render_report(errors, experiment(), figures=draw_figures(errors))

    assert "minus_error in its own unit, with 95 % interval" in page
    told = [text for text in _words(page) if "%" in text or "points" in text.split()]
    assert [text for text in told if "filled points were accepted" not in text] == []


def test_a_card_has_scores_as_they_are(errors: Results) -> None:
    card = model_card(errors, experiment(), runs={})

    assert "minus_error in its own unit, on 397 test examples" in card
    assert re.search(r"ingredients, minus_error -\d\.\d{3} on val\.", card)
    assert " points" not in card
    assert "in %" not in card


def test_a_comparison_of_runs_has_them_too(errors: Results) -> None:
    runs = [Run(name, errors, {"k": name}) for name in ("first", "second")]
    compared = Runs(runs, [], {("second", place): "of other days" for place in ("test", "shift")})

    page, printed = render_comparison(compared), _printed(terminal_table(compared))

    assert "minus_error in its own unit" in printed
    assert "- first: difference to that of first" in printed
    assert [text for text in _words(page) if "%" in text or "points" in text.split()] == []


def test_one_run_beyond_fractions_keeps_all_of_a_comparison_from_percent() -> None:
    usual = Run("usual", judged_results())
    beyond = judged_results()
    beyond.evaluation["is_fraction"] = {"accuracy": False}

    assert Runs([usual, usual], []).unit.is_fraction
    assert not Runs([usual, Run("beyond", beyond)], []).unit.is_fraction


@pytest.mark.parametrize("plot", [differences, id_vs_shift, shifts, wise_ft])
def test_axes_and_tips_are_in_the_metrics_unit(errors: Results, plot: object) -> None:
    assert callable(plot)
    svg = plot(errors.evaluation)

    assert "%" not in svg
    assert "points" not in svg.partition("</desc>")[2]
    assert "\N{MINUS SIGN}" in svg


def test_what_ingredients_are_worth_is_drawn_in_the_findings_unit() -> None:
    values = {"shapley": {"val": 1.5}, "error": {"val": 0.5}, "change": {"val": -0.5}}
    data = {
        "metric": "minus_error",
        "unit": Unit("minus_error", is_fraction=False, size=43.0).to_json(),
        "places": ["val"],
        "groups": [{"name": "all", "rows": [{"ingredient": "a", **values}]}],
    }

    svg = contributions(data)

    assert svg is not None
    assert "a: +1.5 in minus_error on val" in svg
    assert "points" not in svg


def test_columns_for_trackers_are_as_they_are(errors: Results) -> None:
    columns = table_columns(errors.evaluation)

    base = errors.evaluation["models"][0]["metrics"]
    assert columns["test"][0] == round(base["test/minus_error"], 4)


def test_the_report_of_a_classifier_is_the_same_with_units_in_its_manifest() -> None:
    older = judged_results()
    named = {name: name not in ("nll", "brier") for name in ("accuracy", "nll", "brier", "ece")}
    newer = replace(older, evaluation=older.evaluation | {"is_fraction": named})
    nothing = ReportFigures([], [])

    pages = [render_report(results, experiment(), figures=nothing) for results in (older, newer)]

    assert pages[0] == pages[1]
