from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stockpot.config import Experiment

Load = Callable[..., Experiment]
Message = Callable[..., str]


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("seed=7", lambda e: e.seed, 7),
        ("sweep.size=5", lambda e: e.sweep.size, 5),
        ("base.learning_rate=1e-3", lambda e: e.base.learning_rate, 0.001),
        ("soups.0.name=other name", lambda e: e.soups[0].name, "other name"),
        ("soups.0.method=linear", lambda e: e.soups[0].method, "linear"),
        ("sweep.space.seed=null", lambda e: e.sweep.space.seed, None),
        ("soups.0={name: t, select: top_k, k: 3}", lambda e: e.soups[0].k, 3),
        ("tune=[{name: t, trials: 9}]", lambda e: e.tune[0].trials, 9),
        ("run.devices=[cpu, cpu]", lambda e: e.run.devices, ["cpu", "cpu"]),
        ("track.uri=http://a?b=c", lambda e: e.track.uri, "http://a?b=c"),
        ("sweep.space.epochs={integer: [1, 3]}", lambda e: e.sweep.space.epochs.integer, (1, 3)),
    ],
)
def test_an_override_sets_one_field(
    load: Load, override: str, read: Callable[[Experiment], Any], expected: object
) -> None:
    assert read(load(override)) == expected


def test_a_later_override_wins(load: Load) -> None:
    assert load("seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sweep.size", "--set: must look like sweep.size=4, got 'sweep.size'"),
        ("=4", "--set: must look like sweep.size=4, got '=4'"),
        ("soups.3.k=1", "--set: no field 'soups.3.k' in the file (list index out of range)"),
        ("soups.mean.k=1", "--set: no field 'soups.mean.k' in the file (list indices must be"),
        ("soups.0.name.deep=1", "--set: no field 'soups.0.name.deep' in the file ('str' object"),
        ("sweep.size=[1", "--set sweep.size: the value is not YAML, got '[1'"),
        ("track.uri=2024-13-01", "--set track.uri: the value is not YAML, got '2024-13-01'"),
    ],
)
def test_an_override_of_a_field_that_does_not_exist_is_refused(
    message: Message, override: str, expected: str
) -> None:
    assert message(override).startswith(expected)
