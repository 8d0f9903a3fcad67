from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from stockpot.metric_units import Unit
from stockpot.reporting.results import Results
from stockpot.reporting.tables.results_table import random_soups, results_table, wise_ft
from stockpot.reporting.tables.terminal import difference_cell, render_terminal, score_cell
from stockpot.reporting.words.comparisons import Comparison, Outcome
from stockpot.reporting.words.estimates import Estimate


def _printed(evaluation: dict[str, Any], width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(render_terminal(results_table(evaluation), evaluation))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rows_are_base_best_mean_soups_tuned_ensemble(evaluation: dict[str, Any]) -> None:
    assert [(row.name, row.model, row.num_models) for row in results_table(evaluation)] == [
        ("base", "base", 1),
        ("best ingredient", "ingredient-01", 1),
        ("mean ingredient", "", 1),
        ("uniform", "uniform", 1),
        ("greedy", "greedy", 1),
        ("tuned", "tuned", 1),
        ("both", "both", 1),
        ("logit ensemble", "logit ensemble", 2),
    ]


def test_a_row_holds_scores_and_paired_differences(evaluation: dict[str, Any]) -> None:
    greedy = results_table(evaluation)[4]

    assert greedy.val == Estimate(0.96, 0.96 - 0.02, 0.96 + 0.02)
    assert greedy.test == Estimate(0.951, 0.951 - 0.02, 0.951 + 0.02)
    assert greedy.against_shift is not None
    assert greedy.against_shift.difference.value == pytest.approx(0.041)
    assert greedy.against_test is not None
    assert greedy.against_test.difference.value == pytest.approx(0.001)


def test_the_mean_ingredient_is_an_average_without_interval(evaluation: dict[str, Any]) -> None:
    mean = results_table(evaluation)[2]

    assert mean.test == Estimate((0.93 + 0.95) / 2)
    assert mean.shift == Estimate((0.76 + 0.8) / 2)
    assert mean.against_test is None


def test_a_single_ingredient_has_no_mean(plain_results: Results) -> None:
    del plain_results.evaluation["models"][1]

    names = [row.name for row in results_table(plain_results.evaluation)]

    assert names == ["base", "best ingredient", "uniform"]


@pytest.mark.parametrize(
    ("estimate", "outcome", "text"),
    [
        (Estimate(0.041, 0.026, 0.057), Outcome.BETTER, "+4.1* [+2.6,+5.7]"),
        (Estimate(0.003, -0.005, 0.01), Outcome.NO_DIFFERENCE, "+0.3  [-0.5,+1.0]"),
        (Estimate(-0.03, -0.04, -0.02), Outcome.WORSE, "-3.0* [-4.0,-2.0]"),
        (Estimate(0.03, 0.02, 0.04), Outcome.NO_DIFFERENCE, "+3.0  [+2.0,+4.0]"),
        (Estimate(0.02), Outcome.NO_DIFFERENCE, "+2.0"),
    ],
)
def test_a_star_marks_a_difference_that_was_found(
    estimate: Estimate, outcome: Outcome, text: str
) -> None:
    assert difference_cell(Comparison(estimate, outcome, 0.01), Unit("accuracy")) == text


def test_a_missing_comparison_is_a_dash() -> None:
    assert difference_cell(None, Unit("accuracy")) == "-"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [(Estimate(0.965, 0.945, 0.982), "96.5 [94.5,98.2]"), (Estimate(0.5), "50.0"), (None, "-")],
)
def test_a_score_has_its_interval(estimate: Estimate | None, text: str) -> None:
    assert score_cell(estimate, Unit("accuracy")) == text


def test_the_terminal_table_fits_100_columns_on_single_lines(evaluation: dict[str, Any]) -> None:
    lines = _printed(evaluation, width=100).splitlines()

    assert max(map(len, lines)) <= 100
    greedy = next(line for line in lines if line.startswith("greedy"))
    assert greedy.split() == [
        "greedy",
        *("96.0", "95.1", "[93.1,97.1]", "84.1", "[82.1,86.1]"),
        *("+4.1*", "[+3.1,+5.1]", "+0.1", "[-0.9,+1.1]", "1x"),
    ]


def test_a_narrow_terminal_loses_nothing(evaluation: dict[str, Any]) -> None:
    text = "".join(_printed(evaluation, width=72).split())

    for part in ("[+3.1,+5.1]", "[-4.0,-2.0]", "[93.1,97.1]", "2x"):
        assert part in text


def test_columns_under_shift_are_left_out_without_test_shifts(plain_results: Results) -> None:
    assert "shift" not in _printed(plain_results.evaluation, width=100)


def test_a_name_in_brackets_is_no_markup(evaluation: dict[str, Any]) -> None:
    evaluation["models"][3]["name"] = "[red]hot[/red]"

    assert "[red]hot[/red]" in _printed(evaluation, width=120)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'matplotlib', 'torch', 'jinja2'}"
    code = f"import sys, stockpot.reporting; print({heavy} & {{*sys.modules}})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_judged_rows_have_random_soups_before_and_a_step_back_after_the_soups(
    judged: Results,
) -> None:
    names = [row.name for row in results_table(judged.evaluation)]

    assert names == [
        *("base", "best ingredient", "mean ingredient", "random soup of 6"),
        *("uniform", "greedy", "top 5", "tuned", "pareto", "WiSE-FT 0.9"),
        *("logit ensemble", "probability ensemble", "median ensemble", "stacked ensemble"),
    ]


def test_a_corrected_test_decides_where_there_is_one(judged: Results) -> None:
    rows = {row.name: row.against_shift for row in results_table(judged.evaluation)}

    assert rows["uniform"] is not None
    assert rows["top 5"] is not None
    assert (rows["uniform"].outcome, rows["uniform"].p) == (Outcome.BETTER, 0.002)
    # Its interval excludes 0, but that was not corrected for the other comparisons.
    low = rows["top 5"].difference.low
    assert low is not None
    assert low > 0
    assert rows["top 5"].outcome is Outcome.NO_DIFFERENCE


def test_the_longest_names_leave_intervals_on_their_lines(judged: Results) -> None:
    lines = _printed(judged.evaluation, width=100).splitlines()

    assert max(map(len, lines)) <= 100
    assert sum("[" in line and "]" not in line for line in lines) == 0
    assert "* p < 0.05 after" in " ".join(lines)


def test_random_soups_are_as_large_as_the_best_soup_on_val(judged: Results) -> None:
    rows = judged.evaluation["random_soups"]["rows"]
    means = {
        r["place"]: Estimate(r["mean"])
        for r in rows
        if (r["model"], r["pool"]) == ("greedy", "matched")
    }

    baseline = random_soups(judged.evaluation)

    assert baseline is not None
    assert baseline.name == "random soup of 6"
    assert means == {"val": baseline.val, "test": baseline.test, "shift": baseline.shift}


def test_a_soup_of_all_is_compared_with_soups_of_any_size(judged: Results) -> None:
    judged.evaluation["best_soup"] = "uniform"

    baseline = random_soups(judged.evaluation)

    assert baseline is not None
    assert baseline.name == "random soup"


def test_the_best_point_of_a_line_is_chosen_on_val(judged: Results) -> None:
    [first, *_] = judged.evaluation["wise_ft"]
    judged.evaluation["wise_ft"] = [
        {
            **first,
            "alphas": [0.0, 0.5, 1.0],
            "val": [0.9, 0.97, 0.96],
            "test": [0.1, 0.2, 0.3],
            "shift": [],
        }
    ]

    baseline = wise_ft(judged.evaluation)

    assert baseline is not None
    assert (baseline.name, baseline.detail) == ("WiSE-FT 0.5", "uniform and base")
    assert (baseline.val, baseline.test, baseline.shift) == (Estimate(0.97), Estimate(0.2), None)


def test_a_line_that_is_best_at_its_end_is_the_soup_itself(judged: Results) -> None:
    for path in judged.evaluation["wise_ft"]:
        path["val"][-1] = path["val"][-2] = 1.0

    assert wise_ft(judged.evaluation) is None


def test_a_run_without_random_soups_and_interpolations_has_no_baselines(results: Results) -> None:
    assert random_soups(results.evaluation) is None
    assert wise_ft(results.evaluation) is None
