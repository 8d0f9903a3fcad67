"""The command that sends tracking records which wait for their MLflow server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from flows.options import Overrides, Params
from flows.terminal import ERR, OUT
from stockpot.errors import StageFailed

if TYPE_CHECKING:
    from stockpot.experiment.plan import Plan


def send(params: Params = None, overrides: Overrides = None) -> None:
    """Send the tracking records that wait because the MLflow server did not answer.

    Runs, and other commands of a project that end well, send them too. None is sent twice. The
    exit code is 1 if the server still does not answer.

    stockpot send
    """
    from stockpot.experiment.opening import make_plan
    from stockpot.experiment.waiting_records import waiting_records

    plan = make_plan(params, overrides or [])
    sent, left = send_and_report(plan, OUT)
    if left:
        raise StageFailed(
            f"{left} tracking records wait; start the MLflow server, then run `stockpot send`"
        )
    if not sent:
        OUT.print("No tracking records wait.")
    if elsewhere := waiting_records(plan).elsewhere:
        OUT.print(
            f"{elsewhere} wait for another store or experiment: set track.uri or "
            "track.experiment to the one that they were recorded for, e.g. with --set",
            soft_wrap=True,
        )


def send_and_report(plan: Plan, console: Console = ERR) -> tuple[int, int]:
    """Send the records that wait in a project at the end of a command, and say so.

    If the server does not answer, a warning is printed; the command has ended well all the same.

    Returns:
        Numbers of records that were sent, and that still wait.
    """
    from stockpot.experiment.waiting_records import send_waiting

    sent, left = send_waiting(plan)
    if sent:
        console.print(f"Sent {sent} tracking records that were waiting.")
    return sent, left


def waiting_notes(plan: Plan) -> list[str]:
    """Describe the records that wait in a project, one line per kind; none if there are none."""
    from stockpot.experiment.waiting_records import waiting_records
    from stockpot.tracking.addresses import redacted

    waiting = waiting_records(plan)
    notes = {
        f"tracking records wait for {redacted(plan.tracking_uri)}; send them: stockpot send": (
            waiting.here
        ),
        "tracking records wait for another store or experiment": waiting.elsewhere,
        "tracking records were refused; they are in .stockpot/outbox/refused": waiting.refused,
    }
    return [f"{count} {note}" for note, count in notes.items() if count]
