"""The shared store: does it answer, and may its files be read."""

from __future__ import annotations

from collections.abc import Iterator

from stockpot.errors import InputError, StageFailed
from stockpot.experiment.doctor.outcome import Outcome
from stockpot.experiment.plan import Plan
from stockpot.storage.remote.opening import is_set_up


def check_store(plan: Plan) -> Iterator[Outcome]:
    """Read the marker of the store of params.yaml, if it names one; nothing is written."""
    address = plan.experiment.store
    if address is None:
        return
    try:
        found = is_set_up(plan.project.root, address)
    except (InputError, StageFailed) as error:
        advice = "correct store in params.yaml, or what the message names; `--set store=null` runs"
        yield Outcome(
            "problem", "store", str(error).removeprefix("store: "), f"{advice} without it"
        )
        return
    if found:
        yield Outcome("ok", "store", f"{address} answers")
    else:
        advice = "nothing to do if its bucket exists: the first run creates it"
        yield Outcome("note", "store", f"{address}: no run has used it yet", advice)
