"""The API as its documentation shows it, and its errors."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import stockpot
from stockpot.errors import InputError
from stockpot.experiment.plan import Plan

MODULES = ("comparing", "merging", "souping")
MODELS = [{"w": torch.tensor([float(value), 1.0])} for value in (0, 2, 9)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_run(name: str) -> None:
    module = importlib.import_module(f"stockpot.api.{name}")

    failed, tried = doctest.testmod(module)

    assert (failed, tried > 0) == (0, True)


def test_the_example_of_load_results_runs_on_a_finished_experiment(plan: Plan) -> None:
    from stockpot.api import results

    names = {"finished": plan.project.root}

    failed, tried = doctest.testmod(results, extraglobs=names)

    assert (failed, tried > 0) == (0, True)


def test_importing_the_package_imports_neither_torch_nor_the_api() -> None:
    code = (
        "import stockpot, sys; raise SystemExit(bool({'torch', 'stockpot.api'} & {*sys.modules}))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_name_of_the_api_is_documented() -> None:
    for name in stockpot.__all__:
        assert name in dir(stockpot)
        assert getattr(stockpot, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'mrege'"):
        stockpot.mrege  # noqa: B018


def test_models_on_disk_are_merged_into_a_folder(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path, model in zip(paths, MODELS, strict=True):
        save_file(model, path)

    merged = stockpot.merge(paths, output=tmp_path / "merged", coefficients=[1, 1, 0])

    [file] = merged.glob("*.safetensors")
    assert torch.equal(load_file(file)["w"], torch.tensor([1.0, 1.0]))


@pytest.mark.parametrize("density", [0.5, [1.0, 0.5, 0.0]])
def test_state_dicts_and_paths_give_the_same_merge(
    tmp_path: Path, density: float | list[float]
) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path, model in zip(paths, MODELS, strict=True):
        save_file(model, path)
    save_file({"w": torch.zeros(2)}, tmp_path / "base.safetensors")
    options = {"density": density, "coefficients": [0.5, 0.2, 0.3]}

    on_disk = stockpot.merge(
        paths,
        "ties",
        base=tmp_path / "base.safetensors",
        output=tmp_path / "out.safetensors",
        **options,
    )
    in_memory = stockpot.merge(MODELS, "ties", base={"w": torch.zeros(2)}, **options)

    assert torch.equal(load_file(on_disk)["w"], in_memory["w"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": []}, "models must be at least one"),
        ({"models": MODELS, "coefficients": [1]}, "one per model, got 1 for 3"),
        ({"models": MODELS, "coefficients": [1, 1, float("nan")]}, "finite number, got nan"),
        ({"models": MODELS, "coefficients": [1, "a", 1]}, "finite number, got 'a'"),
        ({"models": MODELS, "coefficients": [1, 0, -1]}, "must not sum to 0"),
        ({"models": MODELS[0]}, "must be a list of models, got one dict"),
        ({"models": "model.safetensors"}, "must be a list of models, got one str"),
        ({"models": [torch.nn.Linear(1, 1)]}, r"got Linear; .* give its state_dict\(\)"),
        ({"models": [MODELS[0], "a"]}, "all state dicts or all paths"),
        ({"models": ["a"]}, "output is required"),
        ({"models": MODELS, "output": "a"}, "output is for models on disk"),
        ({"models": MODELS, "method": "ties"}, "needs a base"),
        (
            {"models": ["a", "b"], "method": "ties", "density": [0.1], "output": "c"},
            "density must be a number, or one per model, got 1 for 2 models",
        ),
        ({"models": MODELS, "method": "linaer"}, "did you mean 'linear'"),
        ({"models": MODELS, "density": 0.5}, "unknown option 'density'"),
    ],
)
def test_what_cannot_be_merged_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stockpot.merge(**arguments)


def test_a_greedy_soup_is_never_worse_than_the_best_model() -> None:
    def score(weights: dict[str, torch.Tensor]) -> float:
        return -abs(weights["w"][0].item() - 8)

    soup = stockpot.greedy_soup(MODELS, score)

    assert soup.score == score(soup.weights) == -1
    assert soup.coefficients == (0.0, 0.0, 1.0)
    assert len(soup.history) == 6  # each alone, then the soup with each


@pytest.mark.parametrize("score", [float("nan"), None, "high", torch.zeros(2)], ids=str)
def test_a_score_that_is_not_a_finite_number_is_refused(score: object) -> None:
    with pytest.raises(InputError, match="score must be a finite number, got "):
        stockpot.greedy_soup(MODELS, lambda _: score)


def test_scores_may_be_tensors_and_models_may_come_from_a_generator() -> None:
    soups = [
        stockpot.uniform_soup(model for model in MODELS),
        stockpot.greedy_soup((model for model in MODELS), lambda weights: weights["w"][0]),
        stockpot.tune((model for model in MODELS), lambda weights: weights["w"][0], trials=4),
    ]

    assert [soup.weights["w"][0].item() for soup in soups[:2]] == pytest.approx([11 / 3, 9])
    assert len(soups[2].history) == 4
    merged = stockpot.merge(model for model in MODELS)
    assert torch.equal(merged["w"], soups[0].weights["w"])


def test_functions_of_state_dicts_refuse_other_models_and_no_trials() -> None:
    with pytest.raises(InputError, match=r"must be state dicts, got a path; `stockpot.merge`"):
        stockpot.uniform_soup(["model.safetensors"])
    with pytest.raises(InputError, match="trials must be at least 1, got 0"):
        stockpot.tune(MODELS, lambda _: 1.0, trials=0)


def test_tuning_is_reproducible_and_tries_the_models_alone() -> None:
    def score(weights: dict[str, torch.Tensor]) -> float:
        return -abs(weights["w"][0].item() - 3)

    first, again = (stockpot.tune(MODELS, score, trials=12, seed=3) for _ in range(2))

    assert first.history == again.history
    assert [coefficients for coefficients, _ in first.history[1:4]] == [
        tuple(float(one == other) for other in range(3)) for one in range(3)
    ]
    assert first.score == max(found for _, found in first.history)


@pytest.mark.parametrize(
    ("values", "reference", "message"),
    [
        ([1, 0], [1], r"shapes \(2,\) and \(1,\)"),
        ([], [], "one number per example"),
        ([1, np.nan], [1, 0], "must be finite"),
    ],
)
def test_values_that_cannot_be_compared_are_refused(
    values: list[float], reference: list[float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        stockpot.compare(values, reference)


def test_results_have_a_row_per_model_and_ingredient(plan: Plan) -> None:
    results = stockpot.load_results(plan.project.root)

    assert len(results.ingredients) == len(plan.ingredients())
    assert results.best_ingredient in results.ingredients.index
    assert {"test/accuracy", "test/accuracy_low"} <= set(results.models.columns)
    assert results.steps["accepted"].iloc[0]
