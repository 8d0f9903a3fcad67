"""Models of a small experiment are rebuilt from their provenance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.experiment.opening import environment
from stockpot.experiment.plan import Plan
from stockpot.experiment.provenance import Provenance
from stockpot.experiment.reproduction import (
    Rebuilt,
    compare,
    read_provenance,
    rebuild,
    scored_sets,
)
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.store import Store
from stockpot.tracking.recorded import RecordedRun

Job = TrainingJob | SoupJob | TuningJob
NOW = {"stockpot.git_commit": "c0ffee", "stockpot.devices": "cpu", **environment()}


@pytest.fixture(scope="module")
def made(finished: Plan) -> dict[str, Provenance]:
    """The provenance of each model by its name, written as text and read again."""
    jobs: list[Job] = [finished.base_job(), *finished.ingredient_jobs()]
    jobs += [*finished.soup_jobs(), *finished.tuning_jobs()]
    models = {model.name: model for model in finished.models()}
    texts = {job.name: job.provenance(models[job.name]).to_text() for job in jobs}
    return {name: Provenance.from_text(text) for name, text in texts.items()}


def run_of(provenance: Provenance | None, metrics: Mapping[str, float], **tags: str) -> RecordedRun:
    text = None if provenance is None else provenance.to_text()
    named = {f"stockpot.{name}": value for name, value in tags.items()}
    return RecordedRun("a1", "greedy", "soup", "key", metrics, NOW | named, text)


@pytest.mark.parametrize(
    "name", ["base", "ingredient-02", "uniform", "greedy", "top 2", "tuned", "pareto"]
)
def test_a_model_made_again_has_the_recorded_digest_and_scores(
    finished: Plan, made: dict[str, Provenance], tmp_path: Path, name: str
) -> None:
    provenance = made[name]

    again = rebuild(provenance, finished.project.root, tmp_path, ("test",), "cpu")

    assert again.digest == provenance.model.digest
    assert {
        n: s for n, s in again.scores.items() if n != "test/accuracy"
    } == provenance.model.scores
    assert "test/accuracy" in again.scores


@pytest.mark.parametrize(
    "soup",
    [
        "{name: s, select: greedy, method: dare_linear, options: {density: 0.7}}",
        "{name: s, select: top_k, k: 3, method: ties}",
        "{name: s, select: wise_ft}",
        "{name: s, select: uniform, method: fisher, options: {n: 8}}",
    ],
)
def test_a_soup_of_another_method_is_made_again(
    make_plan: Callable[..., Plan], tmp_path: Path, soup: str
) -> None:
    job = make_plan(f"soups=[{soup}]").soup_jobs()[0]
    model = make_model(job, "cpu")
    (tmp_path / "again").mkdir()

    again = rebuild(job.provenance(model), job.root, tmp_path / "again", (), "cpu")

    assert (again.digest, again.scores) == (model.digest, model.scores)


@pytest.mark.parametrize(
    "study",
    [
        "{name: t, search: gradient, per: layer, epochs: 2}",
        "{name: t, search: gradient, epochs: 2, leader: max_w}",
        "{name: t, search: bilevel, epochs: 2}",
        "{name: t, search: entropy, per: layer, steps: 2}",
        "{name: t, search: entropy, per: layer, steps: 2, density: 0.3}",
    ],
)
def test_a_tuned_soup_with_coefficients_of_layers_is_made_again(
    make_plan: Callable[..., Plan], tmp_path: Path, study: str
) -> None:
    job = make_plan(f"tune=[{study}]").tuning_jobs()[0]
    model = make_model(job, "cpu")
    (tmp_path / "again").mkdir()

    again = rebuild(job.provenance(model), job.root, tmp_path / "again", (), "cpu")

    assert (again.digest, again.scores) == (model.digest, model.scores)


def test_the_digest_does_not_depend_on_the_code_that_is_in_the_key(
    finished: Plan, made: dict[str, Provenance], tmp_path: Path
) -> None:
    """A model whose training code changed, but not its result, is rebuilt as it was."""
    recorded = made["ingredient-00"]
    root, details = tmp_path / "old", recorded.model.details
    tensors = load_tensors(finished.project.root / recorded.model.path)
    older = Store(root).save("ingredient", "oldkey", recorded.model.name, tensors, details)

    again = rebuild(
        replace(recorded, model=older), finished.project.root, tmp_path / "place", (), "cpu"
    )

    assert again.digest == older.digest != recorded.model.digest


def test_the_project_is_left_as_it_was(
    plan: Plan, made: dict[str, Provenance], tmp_path: Path
) -> None:
    root = plan.project.root
    before = _times(root)

    rebuild(made["greedy"], root, tmp_path / "again", ("test",), "cpu")

    assert _times(root) == before


def test_a_model_needs_only_what_it_was_made_from(
    plan: Plan, made: dict[str, Provenance], tmp_path: Path
) -> None:
    provenance = made["ingredient-01"]
    (plan.project.root / provenance.model.path).unlink()

    again = rebuild(provenance, plan.project.root, tmp_path / "again", (), "cpu")

    assert again.digest == provenance.model.digest


def test_weights_that_it_is_made_from_and_are_not_there_are_an_input_error(
    plan: Plan, made: dict[str, Provenance], tmp_path: Path
) -> None:
    missing = made["uniform"].ingredients[0][1].path
    (plan.project.root / missing).unlink()

    with pytest.raises(InputError, match=rf"{missing}: no such checkpoint; run `dvc pull`"):
        rebuild(made["uniform"], plan.project.root, tmp_path, (), "cpu")


def test_another_seed_gives_other_weights(
    finished: Plan, made: dict[str, Provenance], tmp_path: Path
) -> None:
    provenance = made["ingredient-00"]
    details = json.loads(json.dumps(provenance.model.details))
    details["hyperparameters"]["seed"] += 1
    changed = replace(provenance, model=replace(provenance.model, details=details))

    again = rebuild(changed, finished.project.root, tmp_path, (), "cpu")
    compared = compare(run_of(changed, provenance.model.scores), changed, again, NOW)

    assert not compared.is_same
    assert compared.digests == (provenance.model.digest, again.digest)


def test_scores_that_differ_are_a_difference_but_not_their_last_digits(
    made: dict[str, Provenance],
) -> None:
    provenance = made["greedy"]
    rebuilt = Rebuilt(provenance.model.digest, {"val/accuracy": 0.9, "val/loss": 0.3})

    same = compare(run_of(provenance, {"val/accuracy": 0.9 + 1e-9}), provenance, rebuilt, NOW)
    other = compare(
        run_of(provenance, {"val/accuracy": 0.91, "cost/bytes": 1}), provenance, rebuilt, NOW
    )

    assert (same.is_same, other.is_same) == (True, False)
    assert other.scores == {"val/accuracy": (0.91, 0.9)}


def test_it_names_what_has_changed_since(made: dict[str, Provenance]) -> None:
    run = run_of(made["greedy"], {}, git_commit="abc-dirty", torch="1.0")

    compared = compare(run, made["greedy"], Rebuilt("d", {}), NOW)

    assert compared.changes == (
        "git commit: abc-dirty then, c0ffee now",
        f"torch: 1.0 then, {NOW['stockpot.torch']} now",
        "the recorded code had changes that are in no commit",
    )


def test_test_is_opened_only_if_the_run_has_scores_on_it() -> None:
    assert scored_sets(run_of(None, {"val/accuracy": 1.0})) == ()
    assert scored_sets(run_of(None, {"test/accuracy": 1.0})) == ("test",)


def test_a_run_that_does_not_say_how_its_model_was_made_is_an_input_error() -> None:
    ensemble = replace(run_of(None, {}), kind="ensemble")

    with pytest.raises(InputError, match=r"run a1 \('greedy'\): cannot be rebuilt, it does not"):
        read_provenance(run_of(None, {}))
    with pytest.raises(InputError, match="an ensemble has no weights"):
        read_provenance(ensemble)


def _times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
