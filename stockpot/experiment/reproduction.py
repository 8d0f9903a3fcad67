"""Rebuild a recorded model and compare: are bytes and scores the same?

The model's run holds its provenance. Nothing in the project is changed: the weights are made in a
temporary folder, and the recorded ones need not exist.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError, StageFailed
from stockpot.experiment.jobs.aligning import aligned_again
from stockpot.experiment.jobs.importing import ImportJob
from stockpot.experiment.jobs.job import CannotMake, ModelJob
from stockpot.experiment.jobs.rounds import repeated
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.experiment.provenance import Provenance
from stockpot.experiment.recorded_search import search_of, trains, with_scores
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.importing.sources import source_at
from stockpot.storage.checkpoints import Checkpoint, verify
from stockpot.storage.density import density_of
from stockpot.storage.digests import DigestCache
from stockpot.storage.models import Model
from stockpot.storage.store import Store, pedigree

if TYPE_CHECKING:
    from stockpot.tracking.recorded import RecordedRun

_TOLERANCE = 1e-6  # of scores: the loss on val is stored with six decimals
_NEVER = 1e9  # seconds
_ENVIRONMENT = ("torch", "numpy", "python", "machine")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A rebuilt model.

    Attributes:
        digest: SHA-256 of its file under the recorded name and key, hex.
        scores: on val, its shifts and test, by metric name.
    """

    digest: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A recorded model compared with its rebuilt copy.

    Attributes:
        name: the model's.
        run_id: MLflow's id of the recorded run.
        digests: recorded, rebuilt.
        scores: name -> recorded, rebuilt; for the names that both have.
        changes: differences between the environments then and now, one sentence per difference.
    """

    name: str
    run_id: str
    digests: tuple[str, str]
    scores: Mapping[str, tuple[float, float]]
    changes: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether both have the same weights and the same scores."""
        pairs = self.scores.values()
        equal = all(math.isclose(then, now, rel_tol=0, abs_tol=_TOLERANCE) for then, now in pairs)
        return self.digests[0] == self.digests[1] and equal


def read_provenance(run: RecordedRun) -> Provenance:
    """Return the provenance of a run's model.

    Raises:
        InputError: the run has none: an ensemble, a failure, or a run of an older version.
    """
    if run.provenance is None:
        why = "an ensemble has no weights" if run.kind == "ensemble" else "it does not say how"
        raise InputError(f"run {run.run_id} ({run.name!r}): cannot be rebuilt, {why}")
    return Provenance.from_text(run.provenance)


def rebuild(
    provenance: Provenance, root: Path, place: Path, sets: Sequence[str], device: str
) -> Rebuilt:
    """Rebuild a model and score it; runs in a worker process.

    Args:
        provenance: of the model.
        root: the project root, for the weights that the model is made from.
        place: an empty folder, to which everything is written.
        sets: names of test sets to score on besides val; see `scored_sets`.
        device: where the work is done.

    Raises:
        InputError: weights that it is made from are missing or damaged.
        StageFailed: the training diverged, or the imported file has changed since.
    """
    from stockpot.storage.checkpoints import load_tensors, save_checkpoint

    recorded = provenance.model
    for reference in {one.path: one for one in _needed(provenance)}.values():
        path = place / reference.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(verify(root, reference))
        for file in Store.adapter_files(root / reference.path)[:1]:
            path.with_suffix(file.parent.suffix).symlink_to(file.parent)
    try:
        job = _job(provenance, root, place)
        if isinstance(job, TuningJob) and job.is_trained:
            job = with_scores(job, device)
        tensors = load_tensors(place / job.work(device).path)
    except CannotMake as error:
        raise StageFailed(f"{recorded.name}: cannot be rebuilt: {error}") from error
    path = place / "again.safetensors"
    # The header does not name the source of an import: equal files have equal digests.
    details = {name: value for name, value in recorded.details.items() if name != "source"}
    header = pedigree(recorded.kind, recorded.key, details)
    digest = save_checkpoint(path, tensors, {"stockpot": header})
    again = Checkpoint(path.name, recorded.key, digest)
    return Rebuilt(digest, _scores(provenance, again, place, device, sets))


def compare(
    run: RecordedRun, provenance: Provenance, rebuilt: Rebuilt, now: Mapping[str, str]
) -> Reproduction:
    """Compare a recorded model with its rebuilt copy.

    Args:
        run: the recorded run.
        provenance: of its model.
        rebuilt: the copy.
        now: the tags that a run would have now: commit, devices and `environment`.
    """
    both = sorted(run.metrics.keys() & rebuilt.scores.keys())
    scores = {name: (run.metrics[name], rebuilt.scores[name]) for name in both}
    digests = (provenance.model.digest, rebuilt.digest)
    return Reproduction(run.name, run.run_id, digests, scores, _changes(run.tags, now))


def scored_sets(run: RecordedRun) -> tuple[str, ...]:
    """Return the names of the test sets that a run has scores on; only those are opened."""
    is_tested = any(name.startswith("test/") for name in run.metrics)
    return ("test",) if is_tested else ()


def _changes(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    names = ("git_commit", "devices", *_ENVIRONMENT)
    pairs = {name: (then.get(f"stockpot.{name}", ""), now[f"stockpot.{name}"]) for name in names}
    changes = [
        f"{name.replace('_', ' ')}: {before or 'not recorded'} then, {after} now"
        for name, (before, after) in pairs.items()
        if before != after
    ]
    if pairs["git_commit"][0].endswith("-dirty"):
        changes.append("the recorded code had changes that are in no commit")
    return tuple(changes)


def _needed(provenance: Provenance) -> list[Checkpoint]:
    """Return the weights that the model is made from."""
    from stockpot.merging.registry import METHODS

    ingredients = [reference for _, reference in provenance.ingredients]
    ingredients += [provenance.anchor] if provenance.anchor else []
    recipe = provenance.model.details.get("recipe", {})
    is_unused = provenance.model.kind == "tuned" and not METHODS[recipe["method"]].takes_base
    # A search of the user's own that trains may read the base, whatever its method.
    is_unused = is_unused and not (":" in recipe["search"] and trains(recipe))
    return ingredients if provenance.base is None or is_unused else [provenance.base, *ingredients]


def _job(provenance: Provenance, root: Path, place: Path) -> ModelJob:
    """Return the job that rebuilds the model in a folder from recorded choices."""
    recorded = provenance.model
    frame: dict[str, Any] = {
        "root": place,
        "workload": provenance.workload,
        "name": recorded.name,
        "kind": recorded.kind,
    }
    if recorded.is_aligned:
        return aligned_again(provenance, place)
    if provenance.ingredients:
        return _merging_job(provenance, frame)
    if "rounds" in recorded.details:
        return repeated(provenance, place)
    if "imported" in recorded.details:
        return ImportJob(**frame, start=provenance.base, **_source(recorded, root, place))
    epoch = recorded.details.get("epoch")
    return TrainingJob(
        **frame,
        hyperparameters=Hyperparameters(**recorded.details["hyperparameters"]),
        start=provenance.base,
        threads=provenance.threads,
        save_every_seconds=_NEVER,
        snapshots=(epoch,) if epoch else (),
        until=epoch,
        anchor=provenance.anchor,
    )


def _source(recorded: Model, root: Path, place: Path) -> dict[str, Any]:
    """Return the recorded source of an import: how it was trained is not known here."""
    where = f"{recorded.name}: was imported from {recorded.details['source']}"
    path = root / recorded.details["source"]
    if not path.exists():
        raise InputError(f"{where}, which does not exist")
    source = source_at(root, path, recorded.name)
    [digest] = DigestCache(place / ".stockpot").digest([source.files])
    expected = recorded.details["imported"]["digest"]
    if digest != expected:
        raise StageFailed(f"{where}, whose digest is {digest[:12]}, recorded {expected[:12]}")
    return {"source": source, "digest": digest, "form": ""}  # the form is in the key alone


def _merging_job(provenance: Provenance, frame: Mapping[str, Any]) -> SoupJob | TuningJob:
    """Merge the recorded ingredients; neither they nor coefficients are searched again."""
    assert provenance.base is not None, "a soup has ingredients, and they a base"
    recorded, recipe = provenance.model, provenance.model.details["recipe"]
    aligned: dict[str, Any] = {"aligned": {}} if "repaired" in recorded.details else {}
    root = frame["root"]
    choices: dict[str, Any] = {
        "base": _reference("base", "base", provenance.base),
        "seed": provenance.seed,
        "threads": provenance.threads,
        "ingredients": tuple(
            replace(_reference(n, "ingredient", r), details={**aligned, **_density(root / r.path)})
            for n, r in provenance.ingredients
        ),
        "metric": "",
    }
    if recorded.kind == "tuned":
        return TuningJob(**frame, **choices, search=search_of(recorded))
    from stockpot.merging.name_rules import NameRule

    made: dict[str, Any] = {
        "method": recipe["method"],
        "options": recipe.get("options", {}),
        "rules": tuple(NameRule(**rule) for rule in recipe.get("rules", [])),
        "masks": recorded.details.get("masks"),
        "core_space": recipe.get("core_space", False),
        "corruptions": recorded.details.get("corruptions", {}),
    }
    if recorded.details.get("weighted"):
        found = recorded.details["coefficients"]
        made["coefficients"] = tuple(found[name] for name, _ in provenance.ingredients)
    return SoupJob(**frame, **choices, select=None, **made)


def _density(path: Path) -> dict[str, float]:
    """Return the density of an ingredient, which says whether it has a mask, as in its record."""
    from stockpot.storage.checkpoints import load_tensors

    return {"density": density_of(load_tensors(path))}


def _reference(name: str, kind: str, reference: Checkpoint) -> Model:
    """Return a model of which only the weights are needed."""
    return Model(name, kind, reference.key, reference.digest, reference.path, 0, 0)


def _scores(
    provenance: Provenance, again: Checkpoint, place: Path, device: str, sets: Sequence[str]
) -> dict[str, float]:
    from stockpot.judging.test_sets import cached_values, predict_on_sets
    from stockpot.scoring.val_scores import score_on_val

    workload = provenance.workload
    model = _reference(provenance.model.name, provenance.model.kind, again)
    scores = dict(score_on_val(place, workload, model, device).scores)
    metric = next(iter(workload.build().metrics))
    predict_on_sets(place, workload, again, device, sets)
    for name in sets:
        values = cached_values(place, workload, again.digest, name)
        scores[f"{name}/{metric}"] = float(values.mean())
    return scores
