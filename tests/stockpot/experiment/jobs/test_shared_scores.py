"""Scores that several processes share: each candidate once, equal values, no wait for the dead."""

from __future__ import annotations

import json
import math
import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from optuna.storages import RDBStorage
from shared_search import CANDIDATES, search, squared

from flows.stack.postgres import find_postgres, postgres_server
from stockpot.errors import InputError, StageFailed
from stockpot.experiment.jobs import shared_scores
from stockpot.experiment.jobs.method_merges import MethodMerges
from stockpot.experiment.jobs.shared_scores import SharedScores, studies_address
from stockpot.experiment.jobs.tuning import _OnVal
from stockpot.experiment.plan import Plan
from stockpot.soups.tuning.merge import Merge
from stockpot.storage.project import Project


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'studies.db'}"


def never(*_arguments: object) -> tuple[float, ...]:
    raise AssertionError("scored again")


def test_a_second_search_scores_nothing_again(address: str) -> None:
    first = SharedScores(address, "study", 2).score(CANDIDATES, squared)

    again = SharedScores(address, "study", 2).score(CANDIDATES, never)

    assert first == again == [squared(one) for one in CANDIDATES.values()]


def test_a_score_that_is_no_number_comes_back_as_it_is(address: str) -> None:
    scores = SharedScores(address, "study", 1)
    scores.score({"diverged": 0.0}, lambda _one: (math.nan,))

    [(value,)] = scores.score({"diverged": 0.0}, never)

    assert math.isnan(value)


def test_a_candidate_that_a_dead_process_claimed_is_scored(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_scores, "_PATIENCE_SECONDS", 0.3)
    scores = SharedScores(address, "study", 2)
    with pytest.raises(KeyboardInterrupt):
        scores.score({"a": 3.0}, _interrupted)

    found = scores.score({"a": 3.0, "b": 4.0}, squared)

    assert found == [(9.0, -3.0), (16.0, -4.0)]


def test_of_two_results_the_first_counts_whoever_claimed_first(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_scores, "_PATIENCE_SECONDS", 0.0)
    others: list[Sequence[tuple[float, ...]]] = []

    def slow(_candidate: float) -> tuple[float, ...]:
        another = SharedScores(address, "study", 1)
        others.append(another.score({"a": 3.0}, lambda _one: (2.0,)))
        return (1.0,)

    slowly = SharedScores(address, "study", 1).score({"a": 3.0}, slow)

    assert [slowly, *others] == [[(2.0,)]] * 2
    assert SharedScores(address, "study", 1).score({"a": 3.0}, never) == [(2.0,)]


def _interrupted(_candidate: float) -> tuple[float, ...]:
    raise KeyboardInterrupt


def test_searches_and_numbers_of_objectives_are_apart(address: str) -> None:
    SharedScores(address, "one", 2).score({"a": 3.0}, squared)

    assert SharedScores(address, "another", 1).score({"a": 3.0}, lambda _one: (7.0,)) == [(7.0,)]


def test_an_address_that_cannot_be_used_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_scores, "_TRIES", 1)
    monkeypatch.setenv("STOCKPOT_STUDIES", "http://anna:s3cret@host")
    with pytest.raises(InputError, match=r"must be the address of a database, got 'http://\*\*\*@"):
        studies_address()

    with pytest.raises(StageFailed, match=r"STOCKPOT_STUDIES postgresql://\*\*\*@.*unset the var"):
        SharedScores("postgresql://anna:s3cret@127.0.0.1:9/optuna", "study", 1)


def test_a_database_that_goes_away_during_a_search_is_named(address: str) -> None:
    scores = SharedScores(address, "study", 1)

    def end_the_database(_one: float) -> tuple[float, ...]:
        Path(address.removeprefix("sqlite:///")).write_bytes(b"")
        return (1.0,)

    with pytest.raises(StageFailed, match=r"^STOCKPOT_STUDIES sqlite:.*no such table.*unset the"):
        scores.score(CANDIDATES, end_the_database)


def test_a_job_scores_its_candidates_once_on_all_machines(
    plan: Plan, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = next(job for job in plan.tuning_jobs())
    count = len(job.ingredients)
    one = Merge("linear", tuple(float(place == 0) for place in range(count)))
    merges = [one, Merge("linear", (1.0 / count,) * count)]
    monkeypatch.delenv("STOCKPOT_STUDIES", raising=False)
    alone = [*_OnVal(job, "cpu").score_merges(merges, ["val", "loss"])]

    monkeypatch.setenv("STOCKPOT_STUDIES", address)
    first = [*_OnVal(job, "cpu").score_merges(merges, ["val", "loss"])]
    monkeypatch.setattr(MethodMerges, "score_merges", never)
    again = [*_OnVal(job, "cpu").score_merges(merges, ["val", "loss"])]

    assert first == again == alone


@pytest.fixture
def postgres_address() -> Iterator[str]:
    """Return the address of a database of PostgreSQL without tables."""
    if find_postgres() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    with tempfile.TemporaryDirectory(prefix="stockpot-test-", dir="/tmp") as folder:
        place = Path(folder)
        place.chmod(0o711)  # if the tests are root's, PostgreSQL has a user of its own
        with postgres_server(Project(place, place / "params.yaml")) as server:
            yield server.url("optuna", "psycopg2")


@pytest.mark.full
def test_several_processes_share_a_study_on_postgres(postgres_address: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    logs = [tmp_path / f"{number}.json" for number in range(3)]
    processes = [context.Process(target=search, args=(postgres_address, log)) for log in logs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)

    results = [json.loads(log.read_text()) for log in logs]

    expected = [[*squared(one)] for one in CANDIDATES.values()]
    assert [result["found"] for result in results] == [expected] * 3
    counts = [len(result["scored"]) for result in results]
    assert min(counts) >= 1
    assert sum(counts) <= len(CANDIDATES) + 3, counts  # by chance a candidate is scored twice
    storage = RDBStorage(postgres_address)
    assert [study.study_name for study in storage.get_all_studies()] == ["study"]
