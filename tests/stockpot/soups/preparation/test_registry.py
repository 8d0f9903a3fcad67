from __future__ import annotations

import inspect
from typing import Any

import pytest

from stockpot.errors import InputError
from stockpot.merging.registry import METHODS
from stockpot.soups.preparation.fisher_information import FisherInformation
from stockpot.soups.preparation.gram_matrices import GramMatrices
from stockpot.soups.preparation.options import split_options
from stockpot.soups.preparation.registry import PREPARATIONS


def test_all_that_methods_take_is_prepared() -> None:
    taken = {method.side_information for method in METHODS.values()} - {None}

    assert taken == PREPARATIONS.keys()


def test_no_option_is_both_of_a_method_and_of_its_preparation() -> None:
    shared = {
        name: inspect.signature(PREPARATIONS[method.side_information]).parameters.keys()
        & method.options.keys()
        for name, method in METHODS.items()
        if method.side_information is not None
    }

    assert {name for name, both in shared.items() if both} == set()


@pytest.mark.parametrize(
    ("method", "options", "preparation", "rest"),
    [
        ("linear", {}, None, {}),
        ("ties", {"density": 0.5}, None, {"density": 0.5}),
        ("fisher", {}, FisherInformation(), {}),
        (
            "fisher",
            {"n": 64, "estimator": "sampled", "draws": 4, "floor": 0.0},
            FisherInformation("sampled", 64, 4),
            {"floor": 0.0},
        ),
        ("regmean", {"max_in": 9, "reduce": 1.0}, GramMatrices(max_in=9), {"reduce": 1.0}),
    ],
)
def test_options_are_of_the_preparation_or_of_the_method(
    method: str, options: dict[str, Any], preparation: object, rest: dict[str, Any]
) -> None:
    assert split_options(method, options) == (preparation, rest)


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("fisher", {"n": 0}, "fisher: n must be a whole number of at least 1, got 0"),
        ("fisher", {"n": 2.5}, "fisher: n must be a whole number of at least 1, got 2.5"),
        ("fisher", {"n": True}, "fisher: n must be a whole number of at least 1, got True"),
        ("fisher", {"draws": -1}, "fisher: draws must be a whole number of at least 1, got -1"),
        (
            "fisher",
            {"estimator": "exakt"},
            "fisher: unknown estimator 'exakt', choose from ['auto', 'empirical', 'exact', "
            "'sampled']; did you mean 'exact'?",
        ),
        (
            "fisher",
            {"estimator": 1.0},
            "fisher: unknown estimator '1.0', choose from ['auto', 'empirical', 'exact', "
            "'sampled']",
        ),
        ("regmean", {"n": "all"}, "regmean: n must be a whole number of at least 1, got 'all'"),
        ("regmean", {"max_in": 0}, "regmean: max_in must be a whole number of at least 1, got 0"),
        (
            "regmean",
            {"redge": 0.1},
            "regmean: unknown option 'redge', choose from ['max_in', 'n', 'reduce', 'ridge']; "
            "did you mean 'ridge'?",
        ),
    ],
)
def test_what_cannot_be_prepared_is_refused(
    method: str, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        split_options(method, options)

    assert str(caught.value) == expected
