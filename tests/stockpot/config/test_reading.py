from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from stockpot.config import Experiment, load_experiment
from stockpot.errors import InputError
from stockpot.merging.registry import METHODS
from stockpot.soups.selection.registry import SELECTIONS
from stockpot.workloads.registry import WORKLOADS

Load = Callable[..., Experiment]
Message = Callable[..., str]


def test_a_small_file_gets_the_defaults(load: Load) -> None:
    experiment = load()

    assert experiment.seed == 0
    assert experiment.sweep.size == 16
    assert experiment.soups[0].method == "linear"
    assert experiment.run.devices == "auto"


def test_an_experiment_cannot_be_changed(load: Load) -> None:
    experiment = load()

    with pytest.raises(ValidationError, match="frozen"):
        experiment.seed = 1  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("override", "where", "nearest"),
    [
        ("sweeep.size=3", "sweeep", "sweep"),
        ("sweep.sice=3", "sweep.sice", "size"),
        ("sweep.space.learning_rat=1", "sweep.space.learning_rat", "learning_rate"),
        ("base.epoch=3", "base.epoch", "epochs"),
        ("workload.val_shift=[blur]", "workload.val_shift", "val_shifts"),
        ("soups.0.metod=linear", "soups.0.metod", "method"),
        ("tune=[{name: t, trails: 3}]", "tune.0.trails", "trials"),
        ("evaluate.bootstraps=200", "evaluate.bootstraps", "bootstrap"),
        ("track.url=x", "track.url", "uri"),
        ("run.worker=2", "run.worker", "workers"),
    ],
)
def test_an_unknown_field_gets_the_nearest_one_suggested(
    message: Message, override: str, where: str, nearest: str
) -> None:
    said = message(override)

    unknown = where.rpartition(".")[2]
    assert said.startswith(f"params.yaml: {where}: unknown field {unknown!r}, choose from [")
    assert said.endswith(f"; did you mean {nearest!r}?")


def test_a_field_of_another_recipe_is_not_suggested_for_itself(message: Message) -> None:
    said = message("soups.0.k=3")

    assert said == (
        "params.yaml: soups.0.k: unknown field 'k', "
        "choose from ['additions', 'bags', 'by', 'coefficients', 'core_space', 'folds', "
        "'ingredients', 'masks', 'max_experts', 'max_groups', 'members', 'method', 'name', "
        "'options', 'orders', 'rank', 'risk', 'rules', 'select', 'steps', 'threshold', 'width']"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "workload.name=digit",
            f"workload: unknown workload 'digit', choose from {sorted(WORKLOADS)}; "
            "did you mean 'digits'?",
        ),
        (
            "soups.0.method=linaer",
            f"soups.0.method: unknown merge method 'linaer', choose from {sorted(METHODS)}; "
            "did you mean 'linear'?",
        ),
        (
            "soups.0.select=greddy",
            f"soups.0: unknown select 'greddy', choose from {sorted(SELECTIONS)}; "
            "did you mean 'greedy'?",
        ),
        (
            "tune=[{name: t, sampler: tpee}]",
            "tune.0: unknown sampler 'tpee', choose from ['cmaes', 'gp', 'nsga2', 'nsga3', 'qmc', "
            "'random', 'tpe']; did you mean 'tpe'?",
        ),
        (
            "sweep.search=sobel",
            "sweep.search: must be 'random', 'sobol', 'grid', 'list' or 'soup', got 'sobel'; "
            "did you mean 'sobol'?",
        ),
        (
            "workload.val_shifts=[blurr]",
            "workload: unknown shift 'blurr', choose from ['blur', 'contrast', 'noise', "
            "'occlude', 'rotate', 'scale', 'translate']; did you mean 'blur'?",
        ),
        (
            "sweep.space.learning_rate={log_unifrm: [1, 2]}",
            "sweep.space.learning_rate: unknown distribution 'log_unifrm', choose from "
            "['choice', 'integer', 'log_uniform', 'uniform']; did you mean 'log_uniform'?",
        ),
    ],
)
def test_an_unknown_name_gets_the_nearest_one_suggested(
    message: Message, override: str, expected: str
) -> None:
    assert message(override) == f"params.yaml: {expected}"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=x", "seed: must be a valid integer, unable to parse string as an integer, got 'x'"),
        ("base=3", "base: must be a mapping, got 3"),
        ("base=null", "base: must be a mapping, got None"),
        ("soups=5", "soups: must be a valid list, got 5"),
        ("soups.0=mean", "soups.0: must be a mapping, got 'mean'"),
        ("soups.0={name: x}", "soups.0: must have the field 'select', got {'name': 'x'}"),
        ("soups=[{name: x, select: top_k}]", "soups.0.k: is required, got nothing"),
        ("sweep.size=true", "sweep: size must not be true or false, got true"),
        ("seed=no", "seed must not be true or false, got false"),
        (
            "workload.val_shifts=[blur, blur]",
            "workload: val_shifts must name each shift once, got ['blur', 'blur']",
        ),
        ("workload.val_shifts=blur", "workload.val_shifts: must be a valid list, got 'blur'"),
        ("sweep.size=2.5", "sweep.size: must be a valid integer, got a number with a fractional"),
        ("sweep.space=null", "sweep.space: must be a mapping, got None"),
        ("sweep.space.learning_rate=[1, 2]", "sweep.space.learning_rate: must be a valid number"),
        ("sweep.space.learning_rate=fast", "sweep.space.learning_rate: must be a valid number"),
        (
            "sweep.space.learning_rate={choice: [1, x]}",
            "sweep.space.learning_rate.choice.1: must be a valid number, unable to parse string",
        ),
        (
            "sweep.space.optimizer=adamv",
            "sweep.space.optimizer: must be 'adamw', 'sgd', 'adamp' or 'sgdp', got 'adamv'; did",
        ),
        (
            "sweep.space.optimizer={uniform: [0, 1]}",
            "sweep.space.optimizer: unknown distribution 'uniform', choose from ['choice']",
        ),
        (
            "sweep.space.learning_rate={log_uniform: [1]}",
            "sweep.space.learning_rate.log_uniform.1: is required, got nothing",
        ),
        ("run.workers=all", "run.workers: must be 'auto' or must be a valid integer"),
        (
            "run.devices=cup",
            "run.devices: must be 'auto' or 'cpu' or must be a valid list, got 'cup'; "
            "did you mean 'cpu'?",
        ),
        ("track.experiment=2024-01-02", "track.experiment: must be a valid string, got datetime"),
        ("workload.options={a: [1]}", "workload.options.a: must be a valid integer or must be"),
    ],
)
def test_a_wrong_type_is_named_with_its_field_and_value(
    message: Message, override: str, expected: str
) -> None:
    said = message(override)

    assert said.startswith(f"params.yaml: {expected}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=-1", "seed: must be greater than or equal to 0, got -1"),
        ("seed=4294967296", "seed: must be less than 4294967296, got 4294967296"),
        ("base.epochs=-1", "base.epochs: must be greater than or equal to 0, got -1"),
        ("base.learning_rate=0", "base.learning_rate: must be greater than 0, got 0"),
        ("base.learning_rate=.inf", "base.learning_rate: must be a finite number, got inf"),
        ("base.label_smoothing=1", "base.label_smoothing: must be less than 1, got 1"),
        ("base.augmentation=1.5", "base.augmentation: must be less than or equal to 1, got 1.5"),
        ("sweep.size=-1", "sweep.size: must be greater than or equal to 0, got -1"),
        ("sweep.timeout_seconds=0", "sweep.timeout_seconds: must be greater than 0, got 0"),
        ("soups=[]", "soups: must have at least 1 item, got []"),
        (
            "soups=[{name: x, select: top_k, k: 0}]",
            "soups.0.k: must be greater than or equal to 1, got 0",
        ),
        (
            "soups.0.name=a/b",
            "soups.0.name: must match pattern '^[A-Za-z0-9][A-Za-z0-9 ._-]*$', got 'a/b'",
        ),
        (
            "tune=[{name: t, trials: 0}]",
            "tune.0.trials: must be greater than or equal to 1, got 0",
        ),
        ("tune=[{name: t, top_k: 1}]", "tune.0: top_k: must be at least 2, got 1"),
        ("evaluate.confidence=1", "evaluate.confidence: must be less than 1, got 1"),
        ("evaluate.bootstrap=9", "evaluate.bootstrap: must be greater than or equal to 100, got 9"),
        ("run.threads=0", "run.threads: must be greater than or equal to 1, got 0"),
        (
            "run.workers=0",
            "run.workers: must be 'auto' or must be greater than or equal to 1, got 0",
        ),
        (
            "run.devices=[]",
            "run.devices: must be 'auto' or 'cpu' or must have at least 1 item, got []",
        ),
    ],
)
def test_a_value_outside_its_range_is_named_with_its_field_and_rule(
    message: Message, override: str, expected: str
) -> None:
    assert message(override) == f"params.yaml: {expected}"


def test_all_errors_of_a_file_come_at_once(message: Message) -> None:
    said = message("seed=-1", "sweep.space.epochs=0", "soups.0.method=x", "evaluate.confidance=1")

    assert [line.split(": ")[:2] for line in said.splitlines()] == [
        ["params.yaml", "seed"],
        ["params.yaml", "sweep.space.epochs"],
        ["params.yaml", "soups.0.method"],
        ["params.yaml", "evaluate.confidance"],
    ]


def test_missing_sections_are_named(message: Message) -> None:
    said = message(text="seed: 1")

    assert said == (
        "params.yaml: sweep: is required, got nothing\nparams.yaml: soups: is required, got nothing"
    )


def test_a_long_value_is_shortened(message: Message) -> None:
    said = message(f"seed={'x' * 500}")

    assert said.endswith(f", got '{'x' * 76}...")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sweep: [", "params.yaml: not readable as YAML: while parsing"),
        ("a: b: c", "params.yaml: not readable as YAML: mapping values are not allowed here"),
        ("track: 2024-13-01", "params.yaml: not readable as YAML: month must be in 1..12"),
        ("", "params.yaml: must be a mapping of sections, got None"),
        ("- sweep", "params.yaml: must be a mapping of sections, got ['sweep']"),
        ("sweep", "params.yaml: must be a mapping of sections, got 'sweep'"),
        ("1: 2", "params.yaml: sweep: is required, got nothing"),
        (
            "seed: 1\nsweep: {size: 3, size: 4}\nsoups:\n  - name: x\n    name: y\nseed: 2",
            "params.yaml: line 2: 'size' is duplicated; keep one of them\n"
            "params.yaml: line 5: 'name' is duplicated; keep one of them\n"
            "params.yaml: line 6: 'seed' is duplicated; keep one of them",
        ),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(
    message: Message, text: str, expected: str
) -> None:
    assert message(text=text).startswith(expected)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"seed: \xff")

    with pytest.raises(InputError, match=r"^params\.yaml: is not UTF-8 .*; save it as UTF-8"):
        load_experiment(path)


def test_a_missing_file_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_experiment(tmp_path / "other.yaml")

    assert str(caught.value) == f"other.yaml: no such file in {tmp_path}"
