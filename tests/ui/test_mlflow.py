"""MLflow's own UI on a store that a run has written: do the soups stand side by side?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from judged_results import judged_results
from mlflow_server import Server

from stockpot.tracking.addresses import compare_url, experiment_url
from stockpot.tracking.records import ModelRecord
from stockpot.tracking.tracker import Tracker

if TYPE_CHECKING:
    from tests.ui.conftest import Tab

pytestmark = [
    pytest.mark.ui,
    pytest.mark.full,
    # MLflow's own use of SQLAlchemy 2.1, on every query.
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
    ),
]

SOUPS = ("uniform", "greedy", "top 5", "tuned", "pareto")
SHOWN = ("val/accuracy", "test/accuracy", "shift/mean/accuracy", "shift/noise/accuracy")

# What MLflow's pages say by themselves, whatever the runs: an avatar that is missing, its own use
# of the table it is built on, and the plots' way to read pixels back.
_NOISE = ("Failed to load resource: the server responded with a status of 404", "AG Grid", "WebGL")


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Pages of a server whose store holds the soups of a run."""
    folder = tmp_path_factory.mktemp("mlflow")
    judged = {model["name"]: model for model in judged_results().evaluation["models"]}
    store = folder / "store.db"
    tracker = Tracker.open(f"sqlite:///{store}", "soups", folder, offline=False, tags={})
    tracker.start_parent("run", {"seed": 0}, {})
    for name in SOUPS:
        metrics = {metric: judged[name]["metrics"][metric] for metric in SHOWN}
        tracker.log_model(ModelRecord(name, "soup", key=name, metrics=metrics))
    tracker.log_view("accuracy")
    tracker.finish_parent("FINISHED")
    runs = [run for name in SOUPS if (run := tracker.run_id(name))]
    experiment = str(tracker.store.experiment_id)
    server = Server(folder / "server", store)
    server.start()
    yield {
        "compare": compare_url(server.uri, runs, [experiment]),
        "models": experiment_url(server.uri, experiment),
    }
    server.kill()


def ours(complaints: list[str]) -> list[str]:
    """Leave out what is MLflow's own."""
    return [said for said in complaints if not any(noise in said for noise in _NOISE)]


def test_the_page_that_compares_soups_shows_every_metric_of_each(
    links: dict[str, str], open_tab: Callable[..., Tab]
) -> None:
    tab = open_tab(links["compare"], width=2400)  # columns outside the window are not drawn
    scores = {
        f"{model['metrics'][metric]:.3f}".rstrip("0")
        for model in judged_results().evaluation["models"]
        if model["name"] in SOUPS
        for metric in SHOWN
    }

    for text in (*SOUPS, *SHOWN, *sorted(scores)):
        tab.page.get_by_text(text, exact=True).first.wait_for()

    assert ours(tab.complaints) == []


def test_the_page_of_all_models_has_a_row_a_soup(
    links: dict[str, str], open_tab: Callable[..., Tab]
) -> None:
    tab = open_tab(links["models"])

    for name in SOUPS:
        tab.page.get_by_text(name, exact=True).first.wait_for()

    assert ours(tab.complaints) == []
