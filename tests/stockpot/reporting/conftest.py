from __future__ import annotations

from collections.abc import Callable
from typing import Any

import judged_results
import pytest
from small_results import small_experiment, small_results

from stockpot.reporting.html import render_report
from stockpot.reporting.results import Results


@pytest.fixture
def results() -> Results:
    """Two ingredients, one failed; two soups, two studies; uniform loses, greedy wins on shift."""
    return small_results()


@pytest.fixture(scope="session")
def page() -> str:
    """The report of `results`: drawing its plots takes a second."""
    return render_report(
        small_results(),
        small_experiment(),
        commands=["make install", "stockpot run"],
    )


@pytest.fixture(scope="session")
def judged_page() -> str:
    """The report of `judged`."""
    judged = judged_results.judged_results(diagnostics=["barriers", "soup_size"])
    runs = judged_results.run_ids(judged)
    return render_report(judged, judged_results.experiment(), runs=runs, latency_ms=1.5)


@pytest.fixture
def judged() -> Results:
    """A run of 16 ingredients with all that the evaluation and two diagnostics write."""
    return judged_results.judged_results(diagnostics=["barriers", "soup_size"])


@pytest.fixture
def evaluation(results: Results) -> dict[str, Any]:
    return results.evaluation


@pytest.fixture
def experiment() -> dict[str, Any]:
    return small_experiment()


@pytest.fixture
def plain_results(results: Results) -> Results:
    """The least that a run can have: one uniform soup, no tuning, no shifts, no failures."""
    evaluation = results.evaluation
    evaluation |= {"test_shifts": [], "val_shifts": [], "greedy": [], "best_soup": "uniform"}
    evaluation["comparisons"] = [
        tested
        for tested in evaluation["comparisons"]
        if (tested["model"], tested["place"]) == ("uniform", "test")
    ]
    evaluation["models"] = [
        model
        for model in evaluation["models"]
        if model["name"] in ("base", "ingredient-00", "ingredient-01", "uniform")
    ]
    for model in evaluation["models"]:
        names = [name for name in model["metrics"] if "shift" in name]
        for name in names:
            del model["metrics"][name]
    for model in [*results.sweep["ingredients"], *results.soups["soups"]]:
        del model["scores"]["val_shift/mean/accuracy"]
    results.sweep["failed"] = []
    results.soups["soups"] = results.soups["soups"][:1]
    results.tune["tuned"] = []
    return results


@pytest.fixture
def rename(results: Results) -> Callable[[str, str], None]:
    """Give a model another name, wherever it is named."""

    def everywhere(old: str, new: str) -> None:
        models = [
            *results.sweep["ingredients"],
            *results.merged,
            *results.evaluation["models"],
        ]
        for model in models:
            model["name"] = new if model["name"] == old else model["name"]
        for tested in results.evaluation["comparisons"]:
            tested["model"] = new if tested["model"] == old else tested["model"]
        for chosen in ("best_ingredient", "best_soup"):
            name = results.evaluation[chosen]
            results.evaluation[chosen] = new if name == old else name

    return everywhere
