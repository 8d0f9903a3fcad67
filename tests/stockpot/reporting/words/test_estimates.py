from __future__ import annotations

from typing import Any

import pytest

from stockpot.reporting.words.estimates import Estimate, percent, points, read_estimate, short_text


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (0.041, "+4.1"),
        (-0.1234, "-12.3"),
        (0.0, "0.0"),
        (0.0003, "+0.0"),
        (-0.0003, "-0.0"),
    ],
)
def test_points_are_signed_and_keep_the_sign_of_what_rounds_to_zero(
    difference: float, text: str
) -> None:
    assert points(difference) == text


@pytest.mark.parametrize(("fraction", "text"), [(0.965, "96.5"), (1.0, "100.0"), (0.0, "0.0")])
def test_percent_has_one_decimal(fraction: float, text: str) -> None:
    assert percent(fraction) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (0.00123456, "0.001235"),
        (12, "12"),
        ([], "-"),
        ([0.2, 0.4], "0.2, 0.4"),
        ({"density": 0.5, "k": 3}, "density=0.5, k=3"),
    ],
)
def test_settings_are_written_short(value: Any, text: str) -> None:
    assert short_text(value) == text


def test_an_estimate_is_read_with_its_interval() -> None:
    metrics = {"test/accuracy": 0.9, "test/accuracy_low": 0.8, "test/accuracy_high": 0.95}

    assert read_estimate(metrics, "test/accuracy") == Estimate(0.9, 0.8, 0.95)


def test_a_metric_without_an_interval_has_none() -> None:
    assert read_estimate({"val/accuracy": 0.9}, "val/accuracy") == Estimate(0.9)


def test_a_metric_that_was_not_recorded_is_none() -> None:
    assert read_estimate({}, "shift/mean/accuracy") is None
