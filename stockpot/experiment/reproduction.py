"""Making a recorded model again, and comparing: the same bytes, the same scores?

What it takes was recorded when the model was made, see `making.py`. Nothing of the project is
touched: the weights are made in a temporary folder, and the recorded ones need not be there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError, StageFailed
from stockpot.experiment.jobs.importing import HeaderJob, ImportJob, check_headers, import_weights
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.provenance import Making
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.importing.sources import source_at
from stockpot.storage.checkpoints import Checkpoint, verify
from stockpot.storage.digests import DigestCache
from stockpot.storage.models import Failure, Model
from stockpot.storage.store import pedigree

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.tracking import RecordedRun

_TOLERANCE = 1e-6  # of scores: the loss on val is kept with six decimals
_NEVER = 1e9  # seconds
_ENVIRONMENT = ("torch", "numpy", "python", "machine")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A model that was made again.

    Attributes:
        digest: SHA-256 of its file under the recorded name and key, hex.
        scores: on val, its shifts and test, by the names of metrics.
    """

    digest: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A recorded model beside the one that was made again.

    Attributes:
        name: the model's.
        run_id: MLflow's id of the recorded run.
        digests: recorded, made again.
        scores: name -> recorded, made again; those that both have.
        changes: what differs between then and now, a sentence each.
    """

    name: str
    run_id: str
    digests: tuple[str, str]
    scores: Mapping[str, tuple[float, float]]
    changes: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Say whether both have the same weights and the same scores."""
        pairs = self.scores.values()
        equal = all(math.isclose(then, now, rel_tol=0, abs_tol=_TOLERANCE) for then, now in pairs)
        return self.digests[0] == self.digests[1] and equal


def rebuild(making: Making, root: Path, place: Path, sets: Sequence[str], device: str) -> Rebuilt:
    """Make a model again and score it; runs in a worker process.

    Args:
        making: of the model.
        root: the project, for the weights that it is made from.
        place: an empty folder; all that is written is in it.
        sets: of the test data, on which it is scored beside val; `scored_sets`.
        device: where the work is done.

    Raises:
        InputError: weights that it is made from are missing or damaged.
        StageFailed: the training diverged, or what was imported is another file today.
    """
    from stockpot.storage.checkpoints import save_checkpoint

    recorded = making.model
    if making.ingredients:
        tensors = _merge(making, root, place, device)
    elif "imported" in recorded.details:
        tensors = _import(making, root, place, device)
    else:
        tensors = _train(making, root, place, device)
    path = place / "again.safetensors"
    # Where an imported file was is not in the header: equal files have equal digests.
    details = {name: value for name, value in recorded.details.items() if name != "source"}
    header = pedigree(recorded.kind, recorded.key, details)
    digest = save_checkpoint(path, tensors, {"stockpot": header})
    again = Checkpoint(path.name, recorded.key, digest)
    return Rebuilt(digest, _scores(making, again, place, device, sets))


def compare(
    run: RecordedRun, making: Making, rebuilt: Rebuilt, now: Mapping[str, str]
) -> Reproduction:
    """Put what was recorded beside what was made again.

    Args:
        run: the recorded run.
        making: what it said.
        rebuilt: the model that was made again.
        now: the tags that a run would have now: commit, devices and `environment`.
    """
    both = sorted(run.metrics.keys() & rebuilt.scores.keys())
    scores = {name: (run.metrics[name], rebuilt.scores[name]) for name in both}
    digests = (making.model.digest, rebuilt.digest)
    return Reproduction(run.name, run.run_id, digests, scores, _changes(run.tags, now))


def scored_sets(run: RecordedRun) -> tuple[str, ...]:
    """Name the test sets that a run has scores on; those alone are opened."""
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


def _train(making: Making, root: Path, place: Path, device: str) -> dict[str, Tensor]:
    from stockpot.experiment.jobs.training import train
    from stockpot.storage.checkpoints import load_tensors

    if making.base is not None:
        _lend(making.base, root, place)
    recorded = making.model
    epoch = recorded.details.get("epoch")
    job = TrainingJob(
        root=place,
        workload=making.workload,
        name=recorded.name,
        kind=recorded.kind,
        hyperparameters=Hyperparameters(**recorded.details["hyperparameters"]),
        start=making.base,
        threads=making.threads,
        save_every_seconds=_NEVER,
        snapshots=(epoch,) if epoch else (),
        until=epoch,
    )
    made = train(job, device)
    if isinstance(made, Failure):
        raise StageFailed(f"{recorded.name}: made again, {made.reason}")
    return load_tensors(place / made.path)


def _import(making: Making, root: Path, place: Path, device: str) -> dict[str, Tensor]:
    """Import the recorded source once more: how it was trained is not known here."""
    from stockpot.storage.checkpoints import load_tensors

    recorded, place_of_source = making.model, making.model.details["source"]
    where = f"{recorded.name}: cannot be trained again, it was imported from {place_of_source}"
    path = root / place_of_source
    if not path.exists():
        raise InputError(f"{where}, which is not there")
    source = source_at(root, path, recorded.name)
    [digest] = DigestCache(place / ".stockpot").digest([source.files])
    expected = recorded.details["imported"]["digest"]
    if digest != expected:
        raise StageFailed(f"{where}, whose digest is {digest[:12]}, recorded {expected[:12]}")
    if making.base is not None:
        _lend(making.base, root, place)
    headers = check_headers(HeaderJob(making.workload, ((source.shown, path),)), device)
    job = ImportJob(
        root=place,
        workload=making.workload,
        kind=recorded.kind,
        source=source,
        digest=digest,
        form=headers.form,
        start=making.base,
        foreign=headers.problems[0],
    )
    made = import_weights(job, device)
    if isinstance(made, Failure):
        raise StageFailed(f"{where}, and cannot be imported again: {made.reason}")
    return load_tensors(place / made.path)


def _merge(making: Making, root: Path, place: Path, device: str) -> dict[str, Tensor]:
    from stockpot.merging.registry import METHODS

    assert making.base is not None, "a soup has ingredients, and they a base"
    recipe = making.model.details["recipe"]
    for _, reference in making.ingredients:
        _lend(reference, root, place)
    is_tuned = making.model.kind == "tuned"
    if not is_tuned or METHODS[recipe["method"]].needs_base:
        _lend(making.base, root, place)
    return (_merge_tuned if is_tuned else _merge_soup)(making, place, device)


def _merge_soup(making: Making, place: Path, device: str) -> dict[str, Tensor]:
    """Merge the recorded ingredients; which they are is not chosen again."""
    from stockpot.experiment.jobs.soups import make_soup
    from stockpot.storage.checkpoints import load_tensors

    assert making.base is not None, "a soup has ingredients, and they a base"
    recipe = making.model.details["recipe"]
    job = SoupJob(
        root=place,
        workload=making.workload,
        name=recipe["name"],
        select="uniform",
        k=None,
        method=recipe["method"],
        options=recipe.get("options", {}),
        base=_referred("base", "base", making.base),
        seed=making.seed,
        ingredients=tuple(
            _referred(name, "ingredient", reference) for name, reference in making.ingredients
        ),
        metric="",
    )
    return load_tensors(place / make_soup(job, device).path)


def _merge_tuned(making: Making, place: Path, device: str) -> dict[str, Tensor]:
    """Merge by the recorded coefficients; they are not searched again."""
    from stockpot.merging.engine import merge_files
    from stockpot.merging.registry import METHODS
    from stockpot.soups.preparation.recalibration import Recalibration
    from stockpot.soups.tuning.mixtures import recipes

    assert making.base is not None, "a soup has ingredients, and they a base"
    details = making.model.details
    recipe = details["recipe"]
    method, per, options = recipe["method"], recipe.get("per", "model"), recipe.get("options", {})
    named = details.get("layer_coefficients", {"model": details["coefficients"]})
    names = [name for name, _ in making.ingredients]
    rows = {group: [row[name] for name in names] for group, row in named.items()}
    paths = [place / reference.path for _, reference in making.ingredients]
    base = place / making.base.path if METHODS[method].needs_base else None
    merged = merge_files(paths, recipes(method, per, rows, options), base)
    recalibrated = Recalibration(making.workload.build(), device)
    return recalibrated(merged, len(paths) + (base is not None))


def _lend(reference: Checkpoint, root: Path, place: Path) -> None:
    """Let weights of the project be found in the folder, too."""
    path = place / reference.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(verify(root, reference))


def _referred(name: str, kind: str, reference: Checkpoint) -> Model:
    """Return a model of which only the weights matter here."""
    return Model(name, kind, reference.key, reference.digest, reference.path, 0, 0)


def _scores(
    making: Making, again: Checkpoint, place: Path, device: str, sets: Sequence[str]
) -> dict[str, float]:
    from stockpot.scoring.predictions import load_outputs, load_targets, predict
    from stockpot.scoring.val_scores import score_on_val

    workload = making.workload
    model = _referred(making.model.name, making.model.kind, again)
    scores = dict(score_on_val(place, workload, model, device).scores)
    metric, compute = next(iter(workload.build().metrics.items()))
    predict(place, workload, again, device, sets)
    for name in sets:
        outputs = load_outputs(place, workload, again.digest, name)
        values = compute(outputs, load_targets(place, workload, name))  # (N,)
        scores[f"{name}/{metric}"] = values.double().mean().item()
    return scores
