"""Promotion: a challenger becomes champion only if it wins the paired test on the test split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from stockpot.errors import InputError, StageFailed, unknown_name
from stockpot.experiment.challenge import Challenger, Verdict
from stockpot.experiment.plan import Plan
from stockpot.experiment.stages import MODEL_STAGES
from stockpot.experiment.state import is_done
from stockpot.storage.atomic_files import write_json
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.dvc import describe_commit
from stockpot.storage.manifests import read_manifest
from stockpot.storage.store import remember_champion

if TYPE_CHECKING:
    from stockpot.tracking.registry import ModelRegistry, RegisteredVersion
    from stockpot.tracking.tracker import Tracker

Judge: TypeAlias = Callable[[Challenger, Checkpoint], Verdict]

CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases of versions in MLflow's registry."""

# Tags of a version: the number of the champion before it, 0 if there was none; and the time at
# which it was rolled back.
_REPLACED, _ROLLED_BACK = "stockpot.replaced", "stockpot.rolled_back"


@dataclass(frozen=True, slots=True)
class Promotion:
    """The outcome of a challenge.

    Attributes:
        outcome: `first` (there was no champion), `promoted`, `kept` or `is champion`.
        sentence: outcome and reason in words.
        name: name of the registered model.
        model: name of the challenger.
        version: the challenger's version in the registry.
        champion: the version that is champion now.
        verdict: result of the test, if there was one.
    """

    outcome: Literal["first", "promoted", "kept", "is champion"]
    sentence: str
    name: str
    model: str
    version: int
    champion: int
    verdict: Verdict | None = None


def challenger_of(plan: Plan, name: str | None, commit: str) -> Challenger:
    """Return a model of the experiment as challenger, by default its best soup on val.

    Raises:
        InputError: no model has this name, or the experiment is not evaluated.
    """
    if not all(is_done(plan, stage) for stage in (*MODEL_STAGES, "evaluate")):
        raise InputError("promote: the experiment must be evaluated; run `stockpot run` first")
    models = {model.name: model for model in plan.models()}
    chosen = read_manifest(plan.project.root, "evaluate")["best_soup"] if name is None else name
    if chosen not in models:
        raise unknown_name("model", chosen, models)
    return Challenger(
        root=plan.project.root,
        workload=plan.workload,
        model=models[chosen],
        level=plan.experiment.promote.level,
        resamples=plan.experiment.evaluate.bootstrap,
        is_named=name is not None,
        commit=commit,
    )


def registered_name(plan: Plan) -> str:
    """Return the name of the registered model: promote.name, else the experiment's."""
    return plan.experiment.promote.name or plan.experiment.track.experiment


def challenge_champion(plan: Plan, tracker: Tracker, name: str | None, judge: Judge) -> Promotion:
    """Promote a model of the experiment if it wins, and write results/promotion.json.

    Args:
        plan: of the experiment, which is evaluated.
        tracker: has the registry.
        name: of the model; None for the best soup on val.
        judge: runs `judge_challenge`, in this process or in a worker.

    Raises:
        InputError: no model has this name, or as for `promote`.
        StageFailed: as for `promote`.
    """
    challenger = challenger_of(plan, name, describe_commit(plan.project.root))
    promotion = promote(tracker.registry(registered_name(plan)), challenger, judge)
    write_json(plan.project.results / "promotion.json", asdict(promotion))
    return promotion


def promote(registry: ModelRegistry, challenger: Challenger, judge: Judge) -> Promotion:
    """Register a challenger, and make it champion if it wins or if there is no champion.

    Args:
        registry: the registered model.
        challenger: the model to register.
        judge: runs `judge_challenge`, in this process or in a worker.

    Raises:
        InputError: the champion belongs to another workload, or neither its predictions nor its
            weights exist.
        StageFailed: the registry does not answer, or the champion changed during the test.
    """
    result = partial(Promotion, name=registry.name, model=challenger.model.name)
    champion = registry.alias(CHAMPION)
    if champion and champion.tags["stockpot.digest"] == challenger.model.digest:
        number, sentence = champion.number, f"{title_of(champion)} is champion already."
        return result("is champion", sentence, version=number, champion=number)
    if champion and champion.tags["stockpot.workload"] != challenger.workload.name:
        raise InputError(
            f"promote.name {registry.name!r}: its champion was made for workload "
            f"{champion.tags['stockpot.workload']!r}, got {challenger.workload.name!r}; "
            "choose another name for this one's champion"
        )
    version = _version_of(registry, challenger)
    if champion is None:
        sentence = f"{title_of(version)} is champion: there was none."
        _crown(registry, challenger, version, None, sentence)
        return result("first", sentence, version=version.number, champion=version.number)
    if _ROLLED_BACK in version.tags and not challenger.is_named:
        sentence = (
            f"{title_of(version)} does not replace {title_of(champion)}: it was rolled back on "
            f"{version.tags[_ROLLED_BACK]}; to promote it nevertheless, name it."
        )
        return result("kept", sentence, version=version.number, champion=champion.number)
    verdict = judge(challenger, weights_of(champion))
    _refuse_if_changed(registry, champion)
    sentence = _sentence(challenger, version, champion, verdict)
    judged = partial(result, sentence=sentence, version=version.number, verdict=verdict)
    if verdict.is_promoted:
        _crown(registry, challenger, version, champion, sentence)
        return judged("promoted", champion=version.number)
    registry.describe(version.number, sentence, {})
    return judged("kept", champion=champion.number)


def roll_back(registry: ModelRegistry) -> str:
    """Restore the champion that the present one replaced; return a sentence that says so.

    Raises:
        InputError: there is no champion, or no previous one.
        StageFailed: the registry does not answer.
    """
    champion = registry.alias(CHAMPION)
    if champion is None:
        raise InputError(f"promote --rollback: {registry.name!r} has no champion")
    number = int(champion.tags.get(_REPLACED, 0))
    previous = registry.version(number) if number else None
    if previous is None:
        raise InputError(
            f"promote --rollback: {title_of(champion)} replaced no version of "
            f"{registry.name!r} that still exists"
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    sentence = f"{title_of(previous)} is champion again; {title_of(champion)} was rolled back."
    registry.set_alias(CHAMPION, previous.number)
    registry.describe(champion.number, sentence, {_ROLLED_BACK: now})
    return sentence


def _version_of(registry: ModelRegistry, challenger: Challenger) -> RegisteredVersion:
    """Return the challenger's version in the registry; register it if there is none."""
    model, workload = challenger.model, challenger.workload
    known = registry.versions("stockpot.digest", model.digest)
    rolled_back = next((version for version in known if _ROLLED_BACK in version.tags), None)
    if rolled_back is not None and not challenger.is_named:
        return rolled_back
    # A former champion keeps its record of the version it replaced, for later rollbacks.
    version = next((version for version in known if _REPLACED not in version.tags), None)
    if version is None:
        tags = {
            "stockpot.model": model.name,
            "stockpot.kind": model.kind,
            "stockpot.path": model.path,
            "stockpot.workload": workload.name,
            "stockpot.test_set": workload.set_digest("test"),
            "stockpot.git_commit": challenger.commit,
        }
        version = registry.register(model.key, model.path, model.digest, tags)
    registry.set_alias(CHALLENGER, version.number)
    return version


def _crown(
    registry: ModelRegistry,
    challenger: Challenger,
    version: RegisteredVersion,
    replaced: RegisteredVersion | None,
    sentence: str,
) -> None:
    remember_champion(challenger.root, challenger.model.path)
    number = 0 if replaced is None else replaced.number
    tags = {_REPLACED: str(number), "stockpot.test_set": challenger.workload.set_digest("test")}
    registry.describe(version.number, sentence, tags)
    registry.set_alias(CHAMPION, version.number)
    registry.drop_alias(CHALLENGER)


def weights_of(version: RegisteredVersion) -> Checkpoint:
    """Return the checkpoint that a version refers to."""
    tags = version.tags
    return Checkpoint(tags["stockpot.path"], tags["stockpot.key"], tags["stockpot.digest"])


def _refuse_if_changed(registry: ModelRegistry, champion: RegisteredVersion) -> None:
    """Detect a concurrent promotion; MLflow has no lock against it."""
    now = registry.alias(CHAMPION)
    if now is None or now.number != champion.number:
        raise StageFailed(
            f"promote: the champion of {registry.name!r} changed during the test; "
            "run the command again"
        )


def title_of(version: RegisteredVersion) -> str:
    """Return the name and the number of a version, for messages."""
    return f"{version.tags['stockpot.model']!r} (version {version.number})"


def _sentence(
    challenger: Challenger,
    version: RegisteredVersion,
    champion: RegisteredVersion,
    verdict: Verdict,
) -> str:
    verb = "replaces" if verdict.is_promoted else "does not replace"
    found = verdict.comparison
    detectable = found["detectable"]
    power = f" Detectable with this many examples: {detectable:.4f}." if detectable else ""
    is_same_data = champion.tags["stockpot.test_set"] == challenger.workload.set_digest("test")
    note = " The champion was promoted on other test data; both were tested on the present data."
    return (
        f"{title_of(version)} {verb} {title_of(champion)} as champion. {verdict.reason} "
        f"On test it has {verdict.challenger:.4f} against {verdict.champion:.4f}; the interval of "
        f"the difference is {found['low']:+.4f} to {found['high']:+.4f}.{power}"
        f"{'' if is_same_data else note}"
    )
