from __future__ import annotations

from stockpot.reporting.results import Results
from stockpot.reporting.tables.model_grids import checks_grid
from stockpot.reporting.words.alerts import alert_sources, alerts, data_warnings, precheck_notes


def test_all_that_speaks_against_a_model_is_one_alert(judged: Results) -> None:
    [alert] = alerts(judged)

    assert alert.sentence == (
        "ingredient-03 (excluded from all soups): was not fine-tuned from this base: cosine 0.01 "
        "to it (check before merging); a loss barrier of 2.31 nats to all others (barriers)"
    )


def test_a_failed_check_is_an_alert_though_the_model_was_not_excluded(judged: Results) -> None:
    judged.sweep["precheck"]["excluded"] = []

    [alert] = alerts(judged)

    assert alert.sentence.startswith("ingredient-03: was not fine-tuned from this base")


def test_a_model_that_only_a_diagnostic_names_was_not_excluded(judged: Results) -> None:
    judged.sweep["precheck"] |= {"failed": [], "excluded": []}

    [alert] = alerts(judged)

    assert (alert.model, alert.excluded) == ("ingredient-03", False)
    assert "excluded" not in alert.sentence


def test_a_run_without_checks_has_no_alerts(results: Results) -> None:
    assert alerts(results) == []
    assert alert_sources(results) == ""


def test_a_failed_check_of_the_data_is_a_warning_and_no_alert(judged: Results) -> None:
    [of_data] = [c for c in judged.sweep["precheck"]["checks"] if c["ingredient"] is None]
    before = data_warnings(judged)

    of_data |= {"passed": False, "detail": "feature 12 differs by 9.1 standard deviations"}

    assert before == []
    assert data_warnings(judged) == [
        "The check that val is like train failed: feature 12 differs by 9.1 standard deviations"
    ]
    assert [alert.model for alert in alerts(judged)] == ["ingredient-03"]


def test_clients_that_are_missing_in_rounds_are_said(results: Results) -> None:
    first = results.sweep["ingredients"][0]
    first["rounds"] = {"rule": "fedavg", "lost": {"2": [0, 3], "5": [1]}}

    [warning] = data_warnings(results)

    assert warning == (
        f"{first['name']}: 3 updates of clients are missing, whose worker died or took too long: "
        "in round 2, round 5."
    )


def test_the_error_bound_is_stated_with_its_confidence(judged: Results) -> None:
    assert precheck_notes(judged) == [
        "val is like train: feature 12 differs most, within chance (4.2).",
        "The average of all ingredients that passed has an error of at most 4.1 % on data like "
        "val, with 99 % confidence (4 errors in 400 examples).",
    ]


def test_without_a_check_nothing_is_certain(results: Results) -> None:
    assert precheck_notes(results) == []
    assert data_warnings(results) == []


def test_checks_have_one_row_per_ingredient_with_the_reason_of_failures(judged: Results) -> None:
    grid = checks_grid(judged)

    assert grid is not None
    assert grid.columns == ["ingredient", "start (limit 0.5)"]
    texts = {row[0].text: (row[1].text, row[1].detail, row[1].tone) for row in grid.rows}
    assert texts["ingredient-00"] == ("0.93", "", "")
    assert texts["ingredient-03"] == (
        "not passed",
        "was not fine-tuned from this base: cosine 0.01 to it",
        "worse",
    )


def test_a_run_without_a_check_has_no_table_of_checks(results: Results) -> None:
    assert checks_grid(results) is None
