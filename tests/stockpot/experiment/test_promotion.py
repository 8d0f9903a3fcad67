"""Challengers and champions of the toy workload, in a real registry."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError, StageFailed
from stockpot.experiment.challenge import Challenger, Verdict, judge_challenge
from stockpot.experiment.plan import Plan
from stockpot.experiment.promotion import (
    CHALLENGER,
    CHAMPION,
    Promotion,
    challenger_of,
    promote,
    registered_name,
    roll_back,
)
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.ranking import best_soup
from stockpot.storage.store import Store, champion_files
from stockpot.tracking.registry import ModelRegistry
from stockpot.tracking.tracker import Tracker
from stockpot.workloads.spec import WorkloadSpec

# MLflow's own use of SQLAlchemy 2.1, on every query.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

TOY = WorkloadSpec("toy_workload:Toy", seed=0, options=(("sizes", "6,60"),))
RIGHT = torch.eye(2)  # the class is the larger coordinate: always right
WRONG = -torch.eye(2)

MakeChallenger = Callable[..., Challenger]


def judge(challenger: Challenger, champion: Checkpoint) -> Verdict:
    return judge_challenge(challenger, champion, "cpu")


def never(challenger: Challenger, _champion: Checkpoint) -> Verdict:
    raise AssertionError(f"{challenger} was judged")


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    folder = tmp_path_factory.mktemp("store")
    return Tracker.open(f"sqlite:///{folder}/mlflow.db", "toy", folder, offline=False, tags={})


@pytest.fixture
def registry(tracker: Tracker) -> ModelRegistry:
    return tracker.registry(f"soups {uuid.uuid4().hex[:8]}")


@pytest.fixture
def challenger(tmp_path: Path) -> MakeChallenger:
    """Make a model of the toy workload with these weights, as challenger."""

    def make(name: str, weight: Tensor, *, is_named: bool = False) -> Challenger:
        model = Store(tmp_path).save("soup", name, name, {"weight": weight}, {})
        return Challenger(tmp_path, TOY, model, 0.05, 200, is_named, "c0ffee")

    return make


def aliases(registry: ModelRegistry) -> tuple[int, int]:
    """Return the versions of champion and challenger; 0 for none."""
    found = (registry.alias(CHAMPION), registry.alias(CHALLENGER))
    champion, other = (0 if version is None else version.number for version in found)
    return champion, other


def test_the_first_challenger_is_champion_without_a_test(
    registry: ModelRegistry, challenger: MakeChallenger, tmp_path: Path
) -> None:
    wrong = challenger("wrong", WRONG)

    made = promote(registry, wrong, never)

    assert made == Promotion(
        "first", "'wrong' (version 1) is champion: there was none.", registry.name, "wrong", 1, 1
    )
    assert aliases(registry) == (1, 0)
    assert champion_files(tmp_path) == [tmp_path / wrong.model.path]


def test_a_better_challenger_replaces_the_champion(
    registry: ModelRegistry, challenger: MakeChallenger
) -> None:
    promote(registry, challenger("wrong", WRONG), never)

    made = promote(registry, challenger("right", RIGHT), judge)

    assert (made.outcome, made.version, made.champion) == ("promoted", 2, 2)
    assert aliases(registry) == (2, 0)
    assert made.verdict is not None
    assert (made.verdict.challenger, made.verdict.champion) == (1.0, 0.0)
    assert (made.verdict.comparison["won"], made.verdict.comparison["n"]) == (60, 60)
    champion = registry.alias(CHAMPION)
    assert champion is not None
    assert champion.tags["stockpot.replaced"] == "1"


@pytest.mark.parametrize(
    ("weight", "why"),
    [(2 * RIGHT, "equals the champion on all 60"), (WRONG, "loses to the champion: ")],
)
def test_a_challenger_that_is_no_better_does_not_replace_the_champion(
    registry: ModelRegistry, challenger: MakeChallenger, weight: Tensor, why: str
) -> None:
    promote(registry, challenger("right", RIGHT), never)

    made = promote(registry, challenger("other", weight), judge)

    assert (made.outcome, made.version, made.champion) == ("kept", 2, 1)
    assert made.sentence.startswith("'other' (version 2) does not replace 'right' (version 1)")
    assert why in made.sentence
    assert "interval of the difference is" in made.sentence
    assert aliases(registry) == (1, 2)


def test_a_challenger_that_is_turned_down_twice_is_one_version(
    registry: ModelRegistry, challenger: MakeChallenger
) -> None:
    promote(registry, challenger("right", RIGHT), never)

    versions = [promote(registry, challenger("other", WRONG), judge).version for _ in range(2)]

    assert versions == [2, 2]


def test_the_champion_does_not_challenge_itself(
    registry: ModelRegistry, challenger: MakeChallenger
) -> None:
    promote(registry, challenger("right", RIGHT), never)

    made = promote(registry, challenger("right", RIGHT), never)

    assert (made.outcome, made.sentence) == (
        "is champion",
        "'right' (version 1) is champion already.",
    )


def test_rollback_puts_the_champion_before_back(
    registry: ModelRegistry, challenger: MakeChallenger
) -> None:
    for name, weight in (("wrong", WRONG), ("right", RIGHT)):
        promote(registry, challenger(name, weight), judge)

    sentence = roll_back(registry)

    assert sentence == "'wrong' (version 1) is champion again; 'right' (version 2) was rolled back."
    assert aliases(registry) == (1, 0)
    with pytest.raises(InputError, match=r"'wrong' \(version 1\) replaced no version"):
        roll_back(registry)


def test_rollback_without_a_champion_is_an_input_error(registry: ModelRegistry) -> None:
    with pytest.raises(InputError, match="has no champion"):
        roll_back(registry)


def test_what_was_rolled_back_comes_again_only_if_it_is_named(
    registry: ModelRegistry, challenger: MakeChallenger
) -> None:
    for name, weight in (("wrong", WRONG), ("right", RIGHT)):
        promote(registry, challenger(name, weight), judge)
    roll_back(registry)

    unnamed = promote(registry, challenger("right", RIGHT), never)
    before = aliases(registry)
    named = promote(registry, challenger("right", RIGHT, is_named=True), judge)
    roll_back(registry)

    assert "it was rolled back on 2" in unnamed.sentence
    assert before == (1, 0)
    assert (named.outcome, named.version) == ("promoted", 3)
    assert aliases(registry) == (1, 0)


def test_a_champion_without_weights_is_judged_by_its_kept_predictions(
    registry: ModelRegistry, challenger: MakeChallenger, tmp_path: Path
) -> None:
    for name, weight in (("wrong", WRONG), ("right", RIGHT)):
        promote(registry, challenger(name, weight), judge)
    (champion,) = (path for path in champion_files(tmp_path) if path.stem == "right")
    champion.unlink()

    made = promote(registry, challenger("other", WRONG), judge)

    assert made.outcome == "kept"


def test_a_champion_of_which_nothing_is_here_is_named_by_its_digest(
    registry: ModelRegistry, challenger: MakeChallenger, tmp_path: Path
) -> None:
    first = challenger("right", RIGHT)
    promote(registry, first, never)
    (tmp_path / first.model.path).unlink()

    with pytest.raises(InputError, match=f"model with digest {first.model.digest} .*`dvc pull`"):
        promote(registry, challenger("other", WRONG), judge)


def test_models_of_two_workloads_are_not_compared(
    registry: ModelRegistry, challenger: MakeChallenger
) -> None:
    first, other = challenger("right", RIGHT), challenger("other", WRONG)
    promote(registry, first, never)

    with pytest.raises(InputError, match="made for workload 'toy_workload:Toy', got 'digits'"):
        promote(registry, replace(other, workload=replace(TOY, name="digits")), never)


def test_a_champion_of_other_test_data_is_noted(
    registry: ModelRegistry, challenger: MakeChallenger
) -> None:
    promote(registry, challenger("right", RIGHT), never)
    larger = replace(TOY, options=(("sizes", "6,80"),))

    made = promote(registry, replace(challenger("other", WRONG), workload=larger), judge)

    assert made.verdict is not None
    assert made.verdict.comparison["n"] == 80
    assert made.sentence.endswith("other test data; both were tested on the present data.")


def test_a_promotion_in_between_is_not_undone(
    registry: ModelRegistry, challenger: MakeChallenger
) -> None:
    promote(registry, challenger("wrong", WRONG), never)

    def judge_slowly(own: Challenger, champion: Checkpoint) -> Verdict:
        promote(registry, challenger("quicker", RIGHT), judge)
        return judge(own, champion)

    with pytest.raises(StageFailed, match="changed during the test; run the command again"):
        promote(registry, challenger("right", 2 * RIGHT), judge_slowly)

    champion = registry.alias(CHAMPION)
    assert champion is not None
    assert champion.tags["stockpot.model"] == "quicker"


def test_the_challenger_is_the_best_soup_on_val_or_who_is_named(finished: Plan) -> None:
    unnamed = challenger_of(finished, None, "c0ffee")
    named = challenger_of(finished, "ingredient-01", "c0ffee")

    soups = [model for model in finished.models() if model.kind in ("soup", "tuned")]
    assert unnamed.model.scores["val/accuracy"] == max(m.scores["val/accuracy"] for m in soups)
    assert unnamed.model == best_soup(soups, "val/accuracy")
    assert (named.model.kind, named.is_named, unnamed.is_named) == ("ingredient", True, False)


def test_a_challenger_that_is_not_there_is_an_input_error(finished: Plan) -> None:
    with pytest.raises(InputError, match="unknown model 'nobody', choose from"):
        challenger_of(finished, "nobody", "")


def test_an_experiment_that_is_not_evaluated_has_no_challenger(
    make_plan: Callable[..., Plan],
) -> None:
    with pytest.raises(InputError, match="must be evaluated"):
        challenger_of(make_plan("soups.0.select=greedy"), None, "")


def test_the_registered_model_is_called_as_params_say(make_plan: Callable[..., Plan]) -> None:
    names = [registered_name(make_plan(*o)) for o in ((), ("promote.name=digits soups",))]

    assert names == ["stockpot", "digits soups"]
