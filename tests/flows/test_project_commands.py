"""The commands `new` and `check`, as people type them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from flows.project_commands import check, new
from stockpot.errors import InputError

Stockpot: TypeAlias = Callable[..., tuple[int, str]]


def test_each_check_is_a_line_and_a_failure_says_what_to_change(stockpot: Stockpot) -> None:
    code, output = stockpot("check", "broken_workloads:Leak")

    assert code == 1
    assert "failed splits are disjoint" in output
    assert "keep equal examples in one split" in output
    assert "skipped copies keep the order" in output
    assert "no shifts are chosen" in output
    assert re.search(r" \d+ ok, 1 failed, 3 skipped$", output)


def test_options_and_shifts_reach_the_workload(stockpot: Stockpot) -> None:
    arguments = ("toy_workload:Toy", "--option", "sizes=12,1", "--val-shift", "far")

    code, output = stockpot("check", *arguments)

    assert code == 1
    assert "dataset('test'): must have 2 examples at least, got 1" in output
    assert "ok shifts repeat" in output


@pytest.mark.parametrize(
    "arguments",
    [
        ("linear",),
        ("slerp", "--option", "t=0.4"),
        ("top_k", "--kind", "selection", "--option", "k=2"),
        ("optuna", "--kind", "search", "--option", "trials=4"),
        ("similarity", "--kind", "diagnostic"),
        ("digits", "--val-shift", "blur"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_kind_of_plugin_is_checked(stockpot: Stockpot, arguments: tuple[str, ...]) -> None:
    code, output = stockpot("check", *arguments)

    assert code == 0, output
    assert re.search(r" \d+ ok(, \d+ skipped)?$", output)


def test_a_metric_of_the_users_is_checked_on_outputs_of_its_task(
    stockpot: Stockpot, tmp_path: Path
) -> None:
    source = "def error(outputs, targets):\n    return (outputs - targets).abs(){}\n"
    (tmp_path / "sound.py").write_text(source.format(""))
    (tmp_path / "broken.py").write_text(source.format(".mean()"))
    kind = ("--kind", "metric", "--option", "task=regression")

    sound, broken = (stockpot("check", f"{m}:error", *kind) for m in ("sound", "broken"))

    assert sound == (0, sound[1])
    assert broken[0] == 1
    assert "must return a tensor with one value per example" in broken[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "nowhere:Own"}, "module 'nowhere' cannot be imported"),
        ({"name": "toy_workload:Toy", "options": ["sizes"]}, "must look like NAME=VALUE, got 's"),
        ({"name": "toy_workload:Toy", "options": ["size=1"]}, "unexpected keyword .* 'size'"),
        ({"options": ["sizes=2,2"]}, "options and shifts must go with a name, got none"),
        (
            {"name": "toy_workload:accuracy"},
            "must be a workload's class, a merge method, or have --k",
        ),
        ({"name": "toy_workload:Toy", "kind": "method"}, "must be decorated with"),
        ({"name": "greedy", "kind": "rule"}, "unknown kind of --kind 'rule'"),
        ({"name": "linear", "val_shifts": ["blur"]}, "shifts are of a workload"),
        ({"name": "barriers", "kind": "diagnostic", "options": ["a=1"]}, "must have no options"),
        ({"params": "nowhere.yaml"}, "nowhere.yaml: no such file"),
    ],
)
def test_what_cannot_be_built_is_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(**arguments)


def test_new_lists_what_it_wrote_and_refuses_to_do_so_twice(stockpot: Stockpot) -> None:
    code, output = stockpot("new", "mine")

    assert code == 0
    assert "mine/workload.py" in output
    assert "cd mine && stockpot check && stockpot run" in output
    with pytest.raises(InputError, match="must not have files of a project yet"):
        new(Path("mine"))
