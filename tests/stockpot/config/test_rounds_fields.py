"""`sweep.rounds` in params.yaml: defaults, and errors that name the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.config import Experiment, load_experiment
from stockpot.errors import InputError


def _load(folder: Path, rounds: str, others: str = "") -> Experiment:
    params = folder / "params.yaml"
    params.write_text(
        "soups: [{name: uniform, select: uniform}]\n"
        f"sweep:\n  size: 0\n  min_ingredients: 1\n  rounds: [{rounds}]\n{others}"
    )
    return load_experiment(params, ())


def test_rounds_have_defaults(tmp_path: Path) -> None:
    [rounds] = _load(tmp_path, "{name: a}").sweep.rounds

    assert (rounds.rule, rounds.settings) == ("fedavg", {"server_step": 1.0})
    assert rounds.probabilities == (1.0,) * 8
    assert rounds.point()["optimizer"] == "sgd"
    assert rounds.point()["momentum"] == 0


def test_a_rule_has_its_own_options(tmp_path: Path) -> None:
    [rounds] = _load(
        tmp_path, "{name: a, rule: fedau, cutoff: 9, clients: 2, participation: [0.1, 1]}"
    ).sweep.rounds

    assert rounds.settings == {"cutoff": 9, "server_step": 1.0}
    assert rounds.probabilities == (0.1, 1.0)


@pytest.mark.parametrize(
    ("rounds", "message"),
    [
        ("{name: a, rule: fedavgg}", "fedavg"),
        ("{name: a, rule: fedau, beta: 0.1}", "beta"),
        ("{name: a, rule: fedau, cutoff: 0}", "cutoff must be at least 1, got 0"),
        ("{name: a, rule: fedavg_m, beta: 0}", r"beta must be in \(0, 1\], got 0"),
        ("{name: a, rule: gossip, variance: all}", "variance"),
        ("{name: a, participation: 1.5}", "participation"),
        ("{name: a, participation: 0}", "participation must be above 0"),
        ("{name: a, clients: 3, participation: [1, 1]}", r"one per client \(3\), got 2"),
        ("{name: a, concentration: 0}", "concentration"),
        ("{name: a, local_steps: 0}", "local_steps"),
        ("{name: a, client: {patience: 2}}", "patience"),
        ("{name: a, client: {learning_rate: 0}}", "learning_rate"),
        ("{name: a, rule: scaffold, client: {momentum: 0.9}}", "client.momentum must be 0"),
        ("{name: a, rule: fedavg_m, client: {optimizer: adamw}}", "client.optimizer must be sgd"),
        ("{name: a}, {name: a}", "names of rounds must differ from each other"),
        ("", "size must be at least 1 without import or rounds"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, rounds: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _load(tmp_path, rounds)


def test_a_soup_has_another_name_than_rounds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must not be those of other models"):
        _load(tmp_path, "{name: a}", "tune: [{name: rounds-a}]\n")


def test_rounds_count_as_ingredients(tmp_path: Path) -> None:
    _load(tmp_path, "{name: a}")
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("min_ingredients: 1", "min_ingredients: 2"))

    with pytest.raises(InputError, match=r"size \(0\) plus rounds \(1\), got 2"):
        load_experiment(params, ())


def test_a_rule_of_ones_own_has_its_options(tmp_path: Path) -> None:
    [rounds] = _load(tmp_path, "{name: a, rule: 'custom_rounds:Part', share: 0.5}").sweep.rounds

    assert rounds.settings == {"share": 0.5, "label": "none"}


@pytest.mark.parametrize(
    ("rounds", "message"),
    [
        ("{name: a, rule: 'custom_rounds:Part'}", "option 'share' is required"),
        ("{name: a, rule: 'custom_rounds:Part', share: 0}", "share must be above 0, got 0"),
        ("{name: a, rule: 'custom_rounds:Part', share: 1, beta: 1}", "beta"),
        ("{name: a, rule: 'custom_rounds:NotARule'}", "lacks .*'merge'"),
        ("{name: a, rule: 'custom_rounds:Missing'}", "Missing"),
    ],
)
def test_a_rule_of_ones_own_that_does_not_fit_is_named(
    tmp_path: Path, rounds: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _load(tmp_path, rounds)
