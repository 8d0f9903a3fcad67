from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from judged_results import judged_results
from rich.console import Console

from stockpot.reporting.compare.compare_page import render_comparison
from stockpot.reporting.compare.run_grids import all_models_grid, settings_grid, terminal_table
from stockpot.reporting.compare.run_verdicts import run_headline, run_verdicts
from stockpot.reporting.compare.runs import Run, Runs, differing_settings

CURVE = {"mean": [0.9, 0.95], "low": [0.8, 0.9], "high": [0.95, 0.97]}
SOUP_SIZE = {"data": {"metric": "accuracy", "curves": {"val": CURVE}}, "alerts": []}


def a_run(label: str, **settings: str) -> Run:
    results = replace(judged_results(), diagnostics={"soup_size": SOUP_SIZE})
    run = Run(label, results, settings, {"report": f"https://example.org/{label}"})
    run.best["digest"] = label
    return run


def found(label: str, place: str, outcome: str, difference: float) -> dict[str, object]:
    return {
        "model": label,
        "reference": "first",
        "place": place,
        "difference": difference,
        "low": difference - 0.01,
        "high": difference + 0.01,
        "p": 0.01,
        "p_holm": 0.02 if outcome != "no difference" else 0.4,
        "test": "mcnemar",
        "n": 397,
        "won": 12,
        "lost": 7,
        "detectable": 0.02,
        "outcome": outcome,
    }


@pytest.fixture
def compared() -> Runs:
    """Three runs: one better and worse by place, one on other examples."""
    return Runs(
        [
            a_run("first", k="3", seed="0"),
            a_run("second", k="5", seed="0"),
            a_run("<third>", seed="0"),
        ],
        [found("second", "shift", "worse", -0.02), found("second", "test", "better", 0.03)],
        {("<third>", place): "they were judged on other days" for place in ("test", "shift")},
    )


def test_worse_runs_come_first_and_untested_ones_last(compared: Runs) -> None:
    sentences = [verdict.sentence for verdict in run_verdicts(compared)]

    best = compared.runs[0].best["name"]
    assert sentences[0].startswith(
        f"second ({best}) is worse than first ({best}) under shift: -2.0"
    )
    assert sentences[1].startswith(f"second ({best}) is better than first ({best}) on test: +3.0")
    assert "better on 12 and worse on 7 of 397 examples, p = 0.02" in sentences[1]
    assert sentences[3].endswith("; not tested: they were judged on other days")
    assert re.search(r"on test: [\d.]+ % \([\d.]+ to [\d.]+\) against [\d.]+ %", sentences[3])


def test_the_headline_names_runs_by_place(compared: Runs) -> None:
    assert run_headline(compared) == (
        "Against the best soup of first: under shift, second is worse; on test, second is better."
    )


def test_the_headline_says_when_nothing_was_tested(compared: Runs) -> None:
    untested = {(label, place): "so" for label in ("second", "<third>") for place in ("test",)}

    headline = run_headline(Runs(compared.runs[:1], [], untested))

    assert headline == "No run was tested against the best soup of first."


def test_only_settings_that_differ_are_shown(compared: Runs) -> None:
    grid = settings_grid(compared.runs)

    assert differing_settings(compared.runs) == {"k": ["3", "5", None]}
    assert grid is not None
    assert [cell.text for cell in grid.rows[0]] == ["k", "3", "5", "-"]
    assert settings_grid(compared.runs[:1]) is None


def test_one_table_has_all_models_of_all_runs(compared: Runs) -> None:
    grid = all_models_grid(compared.runs)

    assert [row[0].text for row in grid.rows].count("second") == len(grid.rows) / 3
    assert grid.columns[:2] == ["run", "model"]
    assert {len(row) for row in grid.rows} == {len(grid.columns)}


def test_a_run_without_shifts_has_dashes_next_to_one_with_them(compared: Runs) -> None:
    plain = compared.runs[1].results.evaluation
    plain["test_shifts"] = []

    grid = all_models_grid(compared.runs)

    place = list(grid.columns).index("mean shift")
    assert {row[place].text for row in grid.rows if row[0].text == "second"} == {"-"}


def test_the_page_has_verdict_tables_plots_and_links_and_is_whole(compared: Runs) -> None:
    page = render_comparison(compared)

    assert page == render_comparison(compared)
    assert page.index("second is worse") < page.index("Best soups</h2>")
    assert page.count("<svg") == 3
    assert page.count("<table data-sortable") == 4
    assert '<a href="https://example.org/second">report</a>' in page
    assert "&lt;third&gt;" in page
    assert "<third>" not in page
    assert "http://" not in page.replace("http://www.w3.org/", "")


def test_the_terminal_table_stars_significant_differences(compared: Runs) -> None:
    text = io.StringIO()

    Console(file=text, width=100).print(terminal_table(compared))

    assert "+3.0* [+2.0,+4.0]" in text.getvalue()
    assert "-2.0*" in text.getvalue()
