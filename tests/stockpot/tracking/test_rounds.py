"""The run of a round in MLflow: its score, and what its clients did."""

from __future__ import annotations

from typing import Any

from stockpot.tracking.manifests import record_from_manifest
from stockpot.tracking.records import Dataset
from stockpot.tracking.rounds import record_of_round, round_key

VAL = Dataset("toy", "abc", "val")
RECORD: dict[str, Any] = {
    "round": 3,
    "participants": 2,
    "score": 0.5,
    "clients": {"0": {"loss": 1.5, "share": 0.25}, "11": {"loss": 2.5, "share": 0.75}},
    "diverged": {"4": "loss became nan at step 1 of 2"},
    "lost": {"5": "took longer than 3 s"},
}


def test_a_round_has_the_score_and_the_numbers_of_each_client() -> None:
    record = record_of_round("rounds-a", "key", RECORD, metric="val/acc", base="base", val=VAL)

    assert (record.name, record.kind, record.inputs) == ("rounds-a-round-003", "round", ("base",))
    assert record.params == {"round": 3, "participants": 2}
    assert record.metrics == {
        "val/acc": 0.5,
        "client-000/loss": 1.5,
        "client-000/share": 0.25,
        "client-011/loss": 2.5,
        "client-011/share": 0.75,
    }
    assert "| 11 | 2.5 | 0.75 |" in record.note
    assert "2 of 4 chosen clients took part in round 3." in record.note
    assert "Client 4 diverged: loss became nan at step 1 of 2" in record.note
    assert "Client 5 was left out: took longer than 3 s" in record.note


def test_rounds_have_keys_of_their_own() -> None:
    assert len({round_key(run, number) for run in ("a", "b") for number in (1, 2)}) == 4


def test_an_ingredient_made_in_rounds_has_its_settings_and_a_curve() -> None:
    model: dict[str, Any] = {
        "name": "rounds-a",
        "kind": "ingredient",
        "key": "k",
        "bytes": 1,
        "num_params": 1,
        "scores": {},
        "hyperparameters": {"learning_rate": 0.1},
        "rounds": {"rule": "fedau", "options": {"cutoff": 9}, "shard_sizes": [1]},
        "history": [[2, 0.5], [3, 0.75]],
    }

    record = record_from_manifest(model, keys={"base": "b"})

    assert record.params == {
        "learning_rate": 0.1,
        "rounds.rule": "fedau",
        "rounds.options.cutoff": 9,
    }
    assert record.curves == {"rounds/participants": (2, 3), "rounds/score": (0.5, 0.75)}
