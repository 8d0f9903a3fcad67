"""Run flows from the command line: plan, start the server and the workers, and end them all."""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.server import prefect_server
from stockpot.experiment.opening import hold_run_lock, make_plan, record_in_dvc
from stockpot.experiment.plan import Plan
from stockpot.experiment.stages import STAGES
from stockpot.experiment.state import is_done, require_before, write_code_keys
from stockpot.workers import WorkersStopped
from tasks.session import Session, open_session

if TYPE_CHECKING:
    from prefect import Flow

# Modules of the main process that take 0.5 s or more to import.
_IMPORTED_BY = {"sweep": "scipy.stats", "report": "matplotlib.pyplot"}


def launch(
    params: str | None, overrides: Sequence[str], stages: Sequence[str], console: Console
) -> bool:
    """Run stages that are not up to date.

    Args:
        params: the params file; None looks for params.yaml in this folder and those above.
        overrides: `field.subfield=value` each.
        stages: one stage, or all of them.
        console: for messages.

    Returns:
        Whether anything had to be done.

    Raises:
        InputError: the input is not valid; nothing was started.
        StageFailed: not enough of the work succeeded.
        KeyboardInterrupt: the run was interrupted; everything it started has ended.
    """
    plan = make_plan(params, overrides)
    with hold_run_lock(plan.project, console):
        if all(is_done(plan, stage) for stage in stages):
            write_code_keys(plan)
            _record_in_dvc(plan, overrides, stages, console)
            return False
        if len(stages) == 1:
            require_before(plan, stages[0])
        _check_tracking(plan)
        with (
            prefect_server(plan.project) as wait_for_server,
            open_session(params, overrides) as session,
            _interruptible(session),
        ):
            flow = _flow_of(stages)
            _import_ahead(plan, stages)
            wait_for_server()
            _run(flow, session, params, tuple(overrides))
        if len(stages) == 1:
            _record_in_dvc(plan, overrides, stages, console)
    return True


def _check_tracking(plan: Plan) -> None:
    """Check that a tracking server answers; the store in the project needs no check."""
    own = plan.tracking_uri == plan.project.mlflow_uri
    if not own and not plan.experiment.track.offline:
        from stockpot.tracking.connection import check_answers

        check_answers(plan.tracking_uri)


def _record_in_dvc(
    plan: Plan, overrides: Sequence[str], stages: Sequence[str], console: Console
) -> None:
    if objection := record_in_dvc(plan, overrides, stages):
        console.print(f"[yellow]{objection}")


def _flow_of(stages: Sequence[str]) -> Flow[[str | None, tuple[str, ...]], Any]:
    """Return one stage's flow, or the experiment's."""
    # Imported here: Prefect reads its settings from the environment when it is imported.
    from flows.experiment import run_experiment
    from flows.stage import flow_of

    return run_experiment if len(stages) == len(STAGES) else flow_of(stages[0])


def _import_ahead(plan: Plan, stages: Sequence[str]) -> None:
    """Import the slow modules of these stages while the server starts."""
    for stage in stages:
        if stage in _IMPORTED_BY and not is_done(plan, stage):
            importlib.import_module(_IMPORTED_BY[stage])


def _run(
    flow: Flow[[str | None, tuple[str, ...]], Any],
    session: Session,
    params: str | None,
    overrides: tuple[str, ...],
) -> None:
    from tasks.flow_runs import end_left_running
    from tasks.run_settings import everything_sent, run_flow, without_heartbeats

    with without_heartbeats(), everything_sent():
        end_left_running(session.root)
        run_flow(flow, params, overrides)


@contextmanager
def _interruptible(session: Session) -> Iterator[None]:
    """On Ctrl-C or SIGTERM, kill all workers and raise KeyboardInterrupt."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        session.workers.stop()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except WorkersStopped:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
