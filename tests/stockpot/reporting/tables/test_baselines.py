from __future__ import annotations

from stockpot.reporting.results import Results
from stockpot.reporting.tables.baselines import random_soups, wise_ft


def test_random_soups_are_as_large_as_the_best_soup_on_val(judged: Results) -> None:
    rows = judged.evaluation["random_soups"]["rows"]
    means = {
        r["place"]: r["mean"] for r in rows if (r["model"], r["pool"]) == ("greedy", "matched")
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
    assert (baseline.val, baseline.test, baseline.shift) == (0.97, 0.2, None)


def test_a_line_that_is_best_at_its_end_is_the_soup_itself(judged: Results) -> None:
    for path in judged.evaluation["wise_ft"]:
        path["val"][-1] = path["val"][-2] = 1.0

    assert wise_ft(judged.evaluation) is None


def test_a_run_without_random_soups_and_interpolations_has_no_baselines(results: Results) -> None:
    assert random_soups(results.evaluation) is None
    assert wise_ft(results.evaluation) is None
