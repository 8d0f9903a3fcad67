from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking.client import MlflowClient
from parent_runs import parent_run_id

from stockpot.errors import InputError, StageFailed
from stockpot.tracking.outbox import Outbox
from stockpot.tracking.records import Dataset, ModelRecord, Record
from stockpot.tracking.store import MlflowStore
from stockpot.tracking.tracker import Tracker

BASE = ModelRecord("base", "base", key="key-base", metrics={"val/accuracy": 0.5})
INGREDIENT = ModelRecord(
    "ingredient-00",
    "ingredient",
    key="key-0",
    digest="d0" * 32,
    path="checkpoints/ingredients/key-0.safetensors",
    params={"learning_rate": 0.001, "epochs": 3, "augment": True},
    metrics={"val/accuracy": 0.9, "val/loss": 0.25},
    tags={"team": "soup"},
    inputs=("key-base",),
    datasets=(Dataset("digits", "ab" * 32, "val"), Dataset("digits", "ab" * 32, "test")),
    note="Trained from **base**.",
    seconds=12.5,
)
SOUP = ModelRecord(
    "greedy", "soup", key="key-soup", inputs=("key-0",), curves={"best": (0.8, 0.9, 0.9)}
)


Runs = Callable[..., list[Run]]


@pytest.fixture
def runs(client: MlflowClient, experiment: str) -> Runs:
    """Read all runs of the experiment, or those of one content key."""

    def read(key: str | None = None) -> list[Run]:
        found = client.get_experiment_by_name(experiment)
        assert found is not None
        where = "" if key is None else f"tags.`stockpot.key` = '{key}'"
        page = client.search_runs([found.experiment_id], filter_string=where)
        return [client.get_run(run.info.run_id) for run in page]  # a search lacks input models

    return read


def model_inputs(run: Run) -> list[str]:
    return sorted(model.model_id for model in run.inputs.model_inputs) if run.inputs else []


def model_outputs(run: Run) -> list[str]:
    return [model.model_id for model in run.outputs.model_outputs] if run.outputs else []


def test_parent_run_has_name_params_tags_and_status(tracker: Tracker, client: MlflowClient) -> None:
    tracker.log_parent_metrics({"best/accuracy": 0.97})
    tracker.finish_parent("FINISHED")

    run = client.get_run(parent_run_id(tracker))
    assert (run.info.run_name, run.info.status) == ("first run", "FINISHED")
    assert run.data.params == {"seed": "0"}
    assert run.data.metrics == {"best/accuracy": 0.97}
    assert run.data.tags["stockpot.kind"] == "pipeline"
    assert run.data.tags["stockpot.git_commit"] == "c0ffee"
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"


def test_ingredient_is_stored_as_it_was_logged(tracker: Tracker, runs: Runs) -> None:
    tracker.log_model(BASE)

    tracker.log_model(INGREDIENT)

    (run,) = runs("key-0")
    assert (run.info.run_name, run.info.status) == ("ingredient-00", "FINISHED")
    assert run.info.end_time - run.info.start_time == 12500
    assert run.data.params == {"learning_rate": "0.001", "epochs": "3", "augment": "True"}
    assert run.data.metrics == INGREDIENT.metrics
    tags = {name: value for name, value in run.data.tags.items() if "record" not in name}
    assert {name: tags[name] for name in tags if not name.startswith("mlflow.")} == {
        "stockpot.kind": "ingredient",
        "stockpot.key": "key-0",
        "stockpot.digest": "d0" * 32,
        "stockpot.path": "checkpoints/ingredients/key-0.safetensors",
        "stockpot.git_commit": "c0ffee",
        "team": "soup",
    }
    assert tags["mlflow.parentRunId"] == parent_run_id(tracker)
    assert tags["mlflow.note.content"] == "Trained from **base**."


def test_ingredient_records_the_data_it_was_judged_on(tracker: Tracker, runs: Runs) -> None:
    tracker.log_model(BASE)

    tracker.log_model(INGREDIENT)

    (run,) = runs("key-0")
    inputs = {
        (given.dataset.name, given.dataset.digest, given.tags[0].value)
        for given in (run.inputs.dataset_inputs if run.inputs else [])
    }
    assert inputs == {
        ("digits/val", ("ab" * 32)[:36], "val"),
        ("digits/test", ("ab" * 32)[:36], "test"),
    }


def test_lineage_goes_from_base_over_ingredient_to_soup(tracker: Tracker, runs: Runs) -> None:
    for record in (BASE, INGREDIENT, SOUP):
        tracker.log_model(record)

    (base,), (ingredient,), (soup,) = (runs(r.key) for r in (BASE, INGREDIENT, SOUP))
    assert model_inputs(base) == []
    assert model_inputs(ingredient) == model_outputs(base) != []
    assert model_inputs(soup) == model_outputs(ingredient) != []


def test_logged_model_refers_to_the_checkpoint_and_has_the_metrics(
    tracker: Tracker, client: MlflowClient, runs: Runs
) -> None:
    tracker.log_model(BASE)
    tracker.log_model(INGREDIENT)

    (run,) = runs("key-0")
    model = client.get_logged_model(model_outputs(run)[0])
    assert (model.name, model.model_type, model.status.value) == (
        "ingredient-00",
        "ingredient",
        "READY",
    )
    assert model.params == {"learning_rate": "0.001", "epochs": "3", "augment": "True"}
    assert {metric.key: metric.value for metric in model.metrics or []} == INGREDIENT.metrics
    assert model.tags["stockpot.path"] == INGREDIENT.path
    assert model.tags["stockpot.digest"] == INGREDIENT.digest


def test_name_that_is_invalid_for_a_logged_model_is_used_for_the_run(
    tracker: Tracker, client: MlflowClient, runs: Runs
) -> None:
    tracker.log_model(ModelRecord("top 0.5: a/b", "soup", key="odd"))

    (run,) = runs("odd")
    model = client.get_logged_model(model_outputs(run)[0])
    assert (run.info.run_name, model.name) == ("top 0.5: a/b", "top 0-5- a-b")


def test_curve_has_one_point_per_step(tracker: Tracker, client: MlflowClient, runs: Runs) -> None:
    tracker.log_model(BASE)
    tracker.log_model(INGREDIENT)

    tracker.log_model(SOUP)

    (run,) = runs("key-soup")
    history = client.get_metric_history(run.info.run_id, "best")
    assert sorted((point.step, point.value) for point in history) == [(0, 0.8), (1, 0.9), (2, 0.9)]


def test_failed_ingredient_has_its_reason_and_no_model(tracker: Tracker, runs: Runs) -> None:
    reason = "loss became nan at step 12 of 330"

    tracker.log_model(
        ModelRecord("ingredient-07", "ingredient", key="bad", status="FAILED", reason=reason)
    )

    (run,) = runs("bad")
    assert run.info.status == "FAILED"
    assert run.data.tags["stockpot.failure"] == reason
    assert model_outputs(run) == []


def test_reason_longer_than_a_tag_is_shortened(tracker: Tracker, runs: Runs) -> None:
    tracker.log_model(
        ModelRecord("i", "ingredient", key="bad", status="FAILED", reason="x" * 20_000)
    )

    (run,) = runs("bad")
    assert run.data.tags["stockpot.failure"] == "x" * 5000 + " ... (shortened)"


def test_failure_is_logged_once_per_pipeline_run_and_a_later_success_as_a_new_run(
    open_tracker: Callable[[], Tracker], client: MlflowClient, runs: Runs
) -> None:
    failed = ModelRecord("i", "ingredient", key="flaky", status="FAILED", reason="out of memory")
    first, second = open_tracker(), open_tracker()
    first.start_parent("first", {}, {})
    second.start_parent("second", {}, {})

    first.log_model(failed)
    first.log_model(failed)
    second.log_model(failed)
    second.log_model(ModelRecord("i", "ingredient", key="flaky"))

    statuses = sorted(run.info.status for run in runs("flaky"))
    assert statuses == ["FAILED", "FAILED", "FINISHED"]
    found = client.get_run(open_tracker().run_id("flaky") or "")
    assert found.info.status == "FINISHED"


def test_model_logged_twice_is_one_run(tracker: Tracker, runs: Runs) -> None:
    tracker.log_model(BASE)

    tracker.log_model(BASE)

    assert len(runs("key-base")) == 1


def test_empty_key_is_an_error() -> None:
    with pytest.raises(ValueError, match="model record 'logit ensemble': key must not be empty"):
        ModelRecord("logit ensemble", "ensemble", key="")


def test_second_pipeline_run_links_what_the_first_one_logged(
    tracker: Tracker, open_tracker: Callable[[], Tracker], client: MlflowClient, runs: Runs
) -> None:
    tracker.log_model(BASE)
    tracker.log_model(INGREDIENT)
    tracker.finish_parent("FINISHED")
    second = open_tracker()
    second.start_parent("second run", {}, {})

    second.log_model(BASE)
    second.log_model(BASE)
    second.log_model(INGREDIENT)

    (base,), (ingredient,) = runs("key-base"), runs("key-0")
    parent = client.get_run(parent_run_id(second))
    assert model_inputs(parent) == sorted(model_outputs(base) + model_outputs(ingredient))


def test_model_older_than_the_runs_that_are_read_at_once_is_also_linked(
    tracker: Tracker,
    open_tracker: Callable[[], Tracker],
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(4):
        tracker.log_model(ModelRecord(f"soup {number}", "soup", key=f"key-{number}"))
    monkeypatch.setattr("stockpot.tracking.store.NEWEST", 2)
    later = open_tracker()
    later.start_parent("later", {}, {})

    later.log_model(ModelRecord("soup 0", "soup", key="key-0"))
    later.log_metrics("key-1", {"test/accuracy": 0.5})

    assert len(runs("key-0")) == 1
    assert [run.data.metrics for run in runs("key-1")] == [{"test/accuracy": 0.5}]


def test_model_of_the_same_pipeline_run_is_not_linked_to_it(
    tracker: Tracker, client: MlflowClient
) -> None:
    tracker.log_model(BASE)

    tracker.log_model(BASE)

    assert model_inputs(client.get_run(parent_run_id(tracker))) == []


def test_pipeline_run_continues_in_another_process(
    tracker: Tracker, open_tracker: Callable[[], Tracker], client: MlflowClient, runs: Runs
) -> None:
    tracker.finish_parent("FINISHED")
    second = open_tracker()

    second.start_parent("first run", {"seed": 0}, {}, tracker.pipeline)
    second.log_model(BASE)

    assert parent_run_id(second) == parent_run_id(tracker)
    assert len(runs()) == 2
    assert client.get_run(parent_run_id(second)).info.status == "RUNNING"


def test_metrics_are_added_to_run_and_model(
    tracker: Tracker, client: MlflowClient, runs: Runs
) -> None:
    tracker.log_model(BASE)

    tracker.log_metrics("key-base", {"test/accuracy": 0.4})

    (run,) = runs("key-base")
    model = client.get_logged_model(model_outputs(run)[0])
    assert run.data.metrics == {"val/accuracy": 0.5, "test/accuracy": 0.4}
    assert {m.key: m.value for m in model.metrics or []} == run.data.metrics


def test_only_a_changed_value_adds_a_point(
    tracker: Tracker, open_tracker: Callable[[], Tracker], client: MlflowClient, runs: Runs
) -> None:
    tracker.log_model(BASE)
    tracker.log_metrics("key-base", {"test/accuracy": 0.4, "test/loss": math.nan})

    later = open_tracker()
    later.log_metrics("key-base", {"test/accuracy": 0.4, "test/loss": math.nan})
    later.log_metrics("key-base", {"test/accuracy": 0.6})

    (run,) = runs("key-base")
    histories = {
        name: [point.value for point in client.get_metric_history(run.info.run_id, name)]
        for name in ("test/accuracy", "test/loss")
    }
    assert histories["test/accuracy"] == [0.4, 0.6]
    assert len(histories["test/loss"]) == 1
    assert run.data.metrics["test/accuracy"] == 0.6


def test_datasets_of_the_pipeline_and_of_later_metrics_are_inputs_of_their_runs(
    open_tracker: Callable[[], Tracker], client: MlflowClient, runs: Runs
) -> None:
    val, test = (Dataset("digits", f"{context}-digest", context) for context in ("val", "test"))
    later = open_tracker()
    later.start_parent("later", {}, {}, datasets=[val, test])
    later.log_model(replace(BASE, datasets=(val,)))

    later.log_metrics("key-base", {"test/accuracy": 0.4}, [val, test])

    (run,) = runs("key-base")
    for found in (client.get_run(parent_run_id(later)), run):
        assert found.inputs is not None
        named = {(each.dataset.name, each.dataset.digest) for each in found.inputs.dataset_inputs}
        assert len(found.inputs.dataset_inputs) == 2
        assert named == {("digits/val", "val-digest"), ("digits/test", "test-digest")}


def test_parent_has_curves_and_tags(tracker: Tracker, client: MlflowClient) -> None:
    tracker.log_parent_metrics({}, {"ingredients/val/accuracy": (0.8, 0.9)})
    tracker.log_parent_tags({"stockpot.promotion": "kept"})

    run = client.get_run(parent_run_id(tracker))
    points = client.get_metric_history(run.info.run_id, "ingredients/val/accuracy")
    assert [(point.step, point.value) for point in points] == [(0, 0.8), (1, 0.9)]
    assert run.data.tags["stockpot.promotion"] == "kept"


def test_files_of_a_model_are_artifacts_of_its_run(
    tracker: Tracker, client: MlflowClient, tmp_path: Path
) -> None:
    tracker.log_model(replace(BASE, files={"making.json": "{}"}))

    file = client.download_artifacts(tracker.run_id("key-base") or "", "making.json", str(tmp_path))
    assert Path(file).read_text() == "{}"


def test_newest_run_is_the_pipeline_run_that_started_last(
    tracker: Tracker, open_tracker: Callable[[], Tracker]
) -> None:
    second = open_tracker()
    second.start_parent("second", {}, {})

    assert open_tracker().newest_run_id == parent_run_id(second) != parent_run_id(tracker)


def test_view_sorts_the_models_of_the_runs_page_by_the_metric(
    tracker: Tracker, client: MlflowClient
) -> None:
    tracker.log_view("f1")

    tags = client.get_experiment(tracker.store.experiment_id or "").tags
    view = json.loads(tags["mlflow.sharedViewState.stockpot"])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`test/f1`", False)
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_text_is_an_artifact_of_the_parent(
    tracker: Tracker, client: MlflowClient, tmp_path: Path
) -> None:
    tracker.log_text("reports/report.html", "<h1>Größe</h1>")

    file = client.download_artifacts(parent_run_id(tracker), "reports/report.html", str(tmp_path))
    assert Path(file).read_text(encoding="utf-8") == "<h1>Größe</h1>"


def test_table_logged_again_replaces_the_first_and_is_shown_as_a_table(
    tracker: Tracker, client: MlflowClient, tmp_path: Path
) -> None:
    tracker.log_table("results.json", {"model": ["base"], "accuracy": [0.1]})

    tracker.log_table("results.json", {"model": ["base", "greedy"], "accuracy": [0.5, math.nan]})

    run = client.get_run(parent_run_id(tracker))
    file = client.download_artifacts(run.info.run_id, "results.json", str(tmp_path))
    assert json.loads(Path(file).read_text()) == {
        "columns": ["model", "accuracy"],
        "data": [["base", 0.5], ["greedy", None]],
    }
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "results.json", "type": "table"}
    ]


def test_artifacts_of_a_database_are_in_the_state_folder(tracker: Tracker, state_dir: Path) -> None:
    tracker.log_text("report.html", "hello")

    assert [p.name for p in state_dir.glob("mlartifacts/*/artifacts/*")] == ["report.html"]


def test_dvc_experiment_is_a_tag(
    open_tracker: Callable[[], Tracker], monkeypatch: pytest.MonkeyPatch, runs: Runs
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "dusty-soup")
    tracker = open_tracker()

    tracker.start_parent("run", {}, {})
    tracker.log_model(BASE)

    assert [run.data.tags["DVC_EXP_NAME"] for run in runs()] == ["dusty-soup"] * 2


def test_runs_that_a_dead_process_left_are_found_and_marked_killed(
    tracker: Tracker, open_tracker: Callable[[], Tracker], client: MlflowClient
) -> None:
    tracker.log_model(BASE)
    later = open_tracker()

    left = later.left_running()
    later.mark_killed(left[0])

    assert left == (parent_run_id(tracker),)
    assert client.get_run(left[0]).info.status == "KILLED"
    assert open_tracker().left_running() == ()


def test_run_that_ended_is_not_marked_killed(
    tracker: Tracker, open_tracker: Callable[[], Tracker], client: MlflowClient
) -> None:
    tracker.finish_parent("FAILED")

    open_tracker().mark_killed(tracker.pipeline)

    assert client.get_run(parent_run_id(tracker)).info.status == "FAILED"


def test_threads_log_at_once(tracker: Tracker, runs: Runs) -> None:
    def log(thread: int) -> None:
        for number in range(6):
            tracker.log_model(ModelRecord(f"{thread}-{number}", "soup", key=f"{thread}-{number}"))
            tracker.log_metrics(f"{thread}-{number}", {"test/accuracy": number / 10})

    threads = [threading.Thread(target=log, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    logged = {
        run.info.run_name: run.data.metrics for run in runs() if "stockpot.key" in run.data.tags
    }
    assert logged == {f"{t}-{n}": {"test/accuracy": n / 10} for t in range(2) for n in range(6)}
    assert tracker.pending == 0


def test_refused_record_is_stored_reported_and_does_not_block_the_next(
    tracker: Tracker, state_dir: Path, runs: Runs
) -> None:
    too_long = ModelRecord("greedy", "soup", key="long", params={"note": "x" * 6001})

    with pytest.raises(StageFailed, match=r"refused model 'greedy': .*6001.*outbox/refused/0"):
        tracker.log_model(too_long)
    tracker.log_model(BASE)

    (kept,) = (state_dir / "outbox" / "refused").glob("*.json")
    assert json.loads(kept.read_text())["content"]["params"] == {"note": "x" * 6001}
    assert tracker.pending == 0
    assert [run.info.status for run in runs("key-base")] == ["FINISHED"]
    (half,) = runs("long")
    assert half.info.status == "FAILED"
    assert half.data.tags["stockpot.failure"].startswith("not logged whole: ")


def test_model_whose_ingredient_is_not_in_the_store_is_refused(tracker: Tracker) -> None:
    with pytest.raises(StageFailed, match="refused model 'greedy': no model with key key-0"):
        tracker.log_model(SOUP)


def test_damaged_file_in_the_outbox_is_refused_once(
    tracker: Tracker,
    open_tracker: Callable[[], Tracker],
    state_dir: Path,
    uri: str,
    experiment: str,
) -> None:
    outbox = Outbox(MlflowStore(uri, experiment, state_dir), state_dir / "outbox")
    damaged = outbox.put(Record("metrics", tracker.pipeline, {}))
    damaged.write_text("not json")

    with pytest.raises(StageFailed, match="refused a record"):
        open_tracker()

    assert open_tracker().pending == 0
    assert (state_dir / "outbox" / "refused" / damaged.name).read_text() == "not json"


def test_deleted_experiment_is_an_input_error(
    tracker: Tracker, open_tracker: Callable[[], Tracker], client: MlflowClient
) -> None:
    client.delete_experiment(tracker.store.experiment_id or "")

    with pytest.raises(InputError, match=r"track.experiment: 'soups-.*' was deleted in MLflow"):
        open_tracker()


def test_file_that_is_not_a_database_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is not a database, but a text of some length")

    with pytest.raises(InputError, match=r"mlflow.db: cannot be used \(file is not a database\)"):
        Tracker.open(
            f"sqlite:///{tmp_path / 'mlflow.db'}", "soups", tmp_path, offline=False, tags={}
        )


def test_folder_in_place_of_a_database_is_an_input_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be used \(unable to open database file\)"):
        Tracker.open(f"sqlite:///{tmp_path}", "soups", tmp_path, offline=False, tags={})


def test_importing_the_tracker_does_not_import_mlflow() -> None:
    code = "import sys, stockpot.tracking.tracker; sys.exit('mlflow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
