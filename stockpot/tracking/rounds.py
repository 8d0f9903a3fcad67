"""The records of rounds: one run per round, with the losses and weights of its clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockpot.storage.keys import content_key
from stockpot.tracking.records import Dataset, ModelRecord


def round_key(federation: str, number: int) -> str:
    """Return the key of a round's run, by the content key of all rounds."""
    return content_key(federation=federation, round=number)


def record_of_round(
    name: str, federation: str, record: Mapping[str, Any], metric: str, base: str, val: Dataset
) -> ModelRecord:
    """Build the record of one finished round.

    Args:
        name: of the ingredient that is made in rounds.
        federation: the content key of all rounds.
        record: of the round: its number, participants, clients and score.
        metric: name of the score, e.g. `val/accuracy`.
        base: content key of the base.
        val: the data that the score was measured on.
    """
    number, clients = record["round"], record["clients"]
    by_client = {
        f"client-{int(client):03d}/{quantity}": value
        for client, values in clients.items()
        for quantity, value in values.items()
    }
    rows = [f"| {c} | {v['loss']:.4g} | {v['share']:.4g} |" for c, v in clients.items()]
    failed = [f"Client {c} diverged: {reason}" for c, reason in record["diverged"].items()]
    failed += [f"Client {c} was left out: {reason}" for c, reason in record["lost"].items()]
    chosen = len(clients) + len(failed)
    head = f"{len(clients)} of {chosen} chosen clients took part in round {number}."
    table = ["", "| client | loss before its steps | share |", "|---|---|---|", *rows]
    return ModelRecord(
        name=f"{name}-round-{number:03d}",
        kind="round",
        key=round_key(federation, number),
        params={"round": number, "participants": record["participants"]},
        metrics={metric: record["score"], **by_client},
        tags={"stockpot.rounds": name},
        inputs=(base,),
        datasets=(val,),
        note="\n".join([head, *failed, *(table if rows else [])]),
    )
