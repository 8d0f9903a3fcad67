"""The MLflow store: does it answer, in which version, and which records wait for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from stockpot.experiment.doctor.clock import check_clock
from stockpot.experiment.doctor.environment import installed_version
from stockpot.experiment.doctor.outcome import Level, Outcome
from stockpot.experiment.jobs.shared_scores import STUDIES, studies_address
from stockpot.experiment.plan import Plan
from stockpot.experiment.waiting_records import waiting_records
from stockpot.tracking.addresses import checked_uri, is_server, redacted
from stockpot.tracking.connection import StoreAwayError, ask_server, probe


def check_mlflow(plan: Plan) -> Iterator[Outcome]:
    """Check that the tracking store answers; nothing is created."""
    uri = checked_uri(plan.tracking_uri)
    shown = redacted(uri)
    if urlsplit(uri).scheme.startswith("sqlite"):
        yield _check_file(Path(uri.partition(":///")[2].partition("?")[0]), shown)
        return
    try:
        probe(uri)
    except StoreAwayError as away:
        advice = "start it, correct track.uri, or set track.offline: true to send later"
        level: Level = "note" if plan.experiment.track.offline else "problem"
        yield Outcome(level, "MLflow", f"{shown}: {away}", advice)
        return
    if not is_server(uri):
        yield Outcome("ok", "MLflow", f"{shown} answers")
        return
    status, text, date = ask_server(uri, "/version")
    version, own = text.strip() if status == 200 else "unknown", installed_version("mlflow") or ""
    found = f"{shown} answers, version {version}"
    if status in {401, 403}:
        advice = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or _TOKEN"
        yield Outcome("problem", "MLflow", f"{shown}: refuses the credentials ({status})", advice)
    elif version.split(".")[0] != own.split(".")[0]:
        advice = f"this client is {own}: install the same major version on both sides"
        yield Outcome("note", "MLflow", found, advice)
    else:
        yield Outcome("ok", "MLflow", found)
    yield from check_clock("MLflow", date)


def _check_file(path: Path, shown: str) -> Outcome:
    if not path.exists():
        return Outcome("ok", "MLflow", f"{shown}: the first run creates it")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        answer = str(error)
    if answer == "ok":
        return Outcome("ok", "MLflow", shown)
    advice = "restore it from a backup, or move it away: the next run then creates a new one"
    return Outcome("problem", "MLflow", f"{shown}: {answer}", advice)


def check_studies() -> Iterator[Outcome]:
    """Check that the database of shared searches answers, if there is one."""
    address = studies_address()
    if address is None or address.startswith("sqlite"):
        return
    try:
        probe(address)
    except StoreAwayError as away:
        advice = f"start it, or unset {STUDIES}: searches then run on each machine alone"
        yield Outcome("problem", "studies", f"{redacted(address)}: {away}", advice)
    else:
        yield Outcome("ok", "studies", f"{redacted(address)} answers")


def check_records(plan: Plan) -> Iterator[Outcome]:
    """Count the records that wait."""
    waiting = waiting_records(plan)
    notes = (
        (waiting.here, "wait to be sent", "`stockpot send`"),
        (
            waiting.elsewhere,
            "wait for another store or experiment",
            "`stockpot send --set track.uri=...`, with the one that they were recorded for",
        ),
        (
            waiting.refused,
            "were refused by the store",
            "they are in .stockpot/outbox/refused, and never sent again; delete them",
        ),
    )
    found = [Outcome("note", "records", f"{n} {what}", do) for n, what, do in notes if n]
    yield from found or [Outcome("ok", "records", "all are sent")]
