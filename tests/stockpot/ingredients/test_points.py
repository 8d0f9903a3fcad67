from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.distributions.values import Choice, Distribution, Integer, LogUniform, Uniform
from stockpot.errors import InputError
from stockpot.ingredients.points import available, plan_points

SPACE = {
    "learning_rate": LogUniform(1e-4, 1e-1),
    "mixup": Uniform(0.0, 0.5),
    "epochs": Integer(2, 5),
    "batch_size": Choice((16, 32, 64)),
}

positions = st.floats(0, 1, exclude_max=True)
finite = st.floats(-1e6, 1e6, allow_subnormal=False)
positive = st.floats(1e-9, 1e6)


@pytest.mark.parametrize("search", ["random", "sobol"])
@given(small=st.integers(1, 20), more=st.integers(0, 20), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_larger_sweep_starts_with_the_points_of_the_smaller_one(
    search: str, small: int, more: int, seed: int
) -> None:
    smaller = plan_points(search, SPACE, [], small, seed)
    larger = plan_points(search, SPACE, [], small + more, seed)

    assert len(larger) == small + more
    assert larger[:small] == smaller


@pytest.mark.parametrize("search", ["random", "sobol"])
@given(size=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_every_point_is_inside_the_space(search: str, size: int, seed: int) -> None:
    points = plan_points(search, SPACE, [], size, seed)

    for name, distribution in SPACE.items():
        low, high = distribution.bounds()
        assert all(low <= point[name] <= high for point in points)
    assert all(isinstance(point["epochs"], int) for point in points)
    assert {point["batch_size"] for point in points} <= {16, 32, 64}


@pytest.mark.parametrize("search", ["random", "sobol"])
def test_another_seed_draws_other_points(search: str) -> None:
    assert plan_points(search, SPACE, [], 4, 0) != plan_points(search, SPACE, [], 4, 1)


def test_sobol_points_cover_each_range_evenly() -> None:
    points = plan_points("sobol", {"a": Uniform(0, 16), "b": Integer(0, 15)}, [], 16, seed=3)

    assert sorted(math.floor(point["a"]) for point in points) == list(range(16))
    assert sorted(point["b"] for point in points) == list(range(16))


def test_random_points_reach_both_ends_of_an_integer_range() -> None:
    points = plan_points("random", {"epochs": Integer(1, 3)}, [], 60, seed=0)

    assert {point["epochs"] for point in points} == {1, 2, 3}


def test_a_grid_is_all_combinations_in_order() -> None:
    space = {"epochs": Integer(1, 2), "mixup": Choice((0.0, 0.2, 0.4))}

    points = plan_points("grid", space, [], None, seed=0)

    pairs = [(point["epochs"], point["mixup"]) for point in points]
    assert pairs == list(itertools.product((1, 2), (0.0, 0.2, 0.4)))


def test_a_grid_that_is_cut_off_keeps_its_first_points() -> None:
    space = {"epochs": Integer(1, 9)}

    whole = plan_points("grid", space, [], None, seed=0)

    assert plan_points("grid", space, [], 4, seed=0) == whole[:4]


def test_a_list_is_laid_over_the_first_values_of_the_space() -> None:
    space = {"epochs": Integer(3, 9), "mixup": Choice((0.1, 0.2)), "learning_rate": Uniform(1, 2)}

    points = plan_points("list", space, [{"mixup": 0.9}, {"epochs": 5, "seed": 7}], None, seed=0)

    own_seed = points[0].pop("seed")
    assert own_seed != 7
    assert points == [
        {"epochs": 3, "mixup": 0.9, "learning_rate": 1.0},
        {"epochs": 5, "mixup": 0.1, "learning_rate": 1.0, "seed": 7},
    ]


def test_ingredients_without_a_seed_get_one_each_that_does_not_depend_on_the_size() -> None:
    seeds = [point["seed"] for point in plan_points("sobol", SPACE, [], 30, seed=0)]

    assert len(set(seeds)) == 30
    assert seeds[:4] == [point["seed"] for point in plan_points("random", SPACE, [], 4, seed=0)]
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_seed_that_the_space_names_is_used() -> None:
    points = plan_points("sobol", {"seed": Choice((5,))}, [], 3, seed=0)

    assert [point["seed"] for point in points] == [5, 5, 5]


def test_an_unknown_search_is_refused() -> None:
    with pytest.raises(InputError, match="unknown search 'grdi'; choose from grid, list, random"):
        plan_points("grdi", SPACE, [], 3, seed=0)


@pytest.mark.parametrize(
    ("search", "space", "listed", "expected"),
    [
        ("random", SPACE, [], None),
        ("sobol", SPACE, [], None),
        ("grid", {"a": Integer(1, 3), "b": Choice((1, 2))}, [], 6),
        ("list", SPACE, [{"epochs": 2}, {"seed": 1}], 2),
    ],
)
def test_available_counts_the_points_of_a_search(
    search: str,
    space: dict[str, Distribution],
    listed: list[dict[str, float]],
    expected: int | None,
) -> None:
    assert available(search, space, listed) == expected


@pytest.mark.parametrize(
    ("search", "listed", "message"),
    [
        ("grid", [], r"a grid needs choice or integer, got an interval for \['learning_rate', 'm"),
        ("list", [], "must name at least one ingredient's hyperparameters, got none"),
        ("list", [{"epoch": 1}], r"unknown hyperparameters \['epoch'\]; choose from \['learning_"),
        ("sobol", [{"epochs": 1}], "is only for search 'list', got search 'sobol'"),
    ],
)
def test_a_search_that_does_not_fit_the_space_is_refused(
    search: str, listed: list[dict[str, float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        available(search, SPACE, listed)


@given(ends=st.tuples(finite, finite).filter(lambda ends: ends[0] < ends[1]), position=positions)
def test_uniform_stays_between_its_ends(ends: tuple[float, float], position: float) -> None:
    low, high = ends

    assert Uniform(low, high).at(0.0) == low
    assert low <= Uniform(low, high).at(position) <= high


@given(
    ends=st.tuples(positive, positive).filter(lambda ends: ends[0] < ends[1]), position=positions
)
def test_log_uniform_stays_between_its_ends(ends: tuple[float, float], position: float) -> None:
    low, high = ends

    assert LogUniform(low, high).at(0.0) == low
    assert low <= LogUniform(low, high).at(position) <= high


def test_log_uniform_has_the_geometric_mean_in_its_middle() -> None:
    assert LogUniform(1e-4, 1e-2).at(0.5) == pytest.approx(1e-3)


@given(low=st.integers(-50, 50), width=st.integers(0, 50), position=positions)
def test_integer_holds_both_ends_and_nothing_outside(low: int, width: int, position: float) -> None:
    distribution = Integer(low, low + width)

    assert distribution.at(0.0) == low
    assert distribution.at(math.nextafter(1, 0)) == low + width
    assert distribution.at(position) in distribution.values()


@given(values=st.lists(finite, min_size=1, max_size=9), position=positions)
def test_choice_gives_one_of_its_values(values: list[float], position: float) -> None:
    distribution = Choice(tuple(values))

    assert distribution.at(position) in values
    assert distribution.at(0.0) == values[0]
    assert distribution.at(math.nextafter(1, 0)) == values[-1]
    assert distribution.bounds() == (min(values), max(values))


@pytest.mark.parametrize(
    ("distribution", "whole"),
    [
        (Integer(1, 2), True),
        (Choice((1.0, 2.0)), True),
        (Choice((1.0, 2.5)), False),
        (Uniform(1, 2), False),
        (LogUniform(1, 2), False),
    ],
)
def test_only_some_distributions_are_of_whole_numbers(
    distribution: Distribution, whole: bool
) -> None:
    assert distribution.is_whole() is whole


@pytest.mark.parametrize(
    ("kind", "low", "high", "message"),
    [
        (Uniform, 2, 1, "uniform: low must be < high, got 2 and 1"),
        (Uniform, 1, 1, "uniform: low must be < high, got 1 and 1"),
        (LogUniform, 2, 1, "log_uniform: low must be < high, got 2 and 1"),
        (LogUniform, 0, 1, "log_uniform: both ends must be > 0, got 0"),
        (Integer, 2, 1, "integer: low must be <= high, got 2 and 1"),
    ],
)
def test_ends_in_the_wrong_order_are_refused(
    kind: type[Distribution], low: int, high: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        kind(low, high)
