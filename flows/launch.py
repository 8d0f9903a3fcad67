"""Run flows from the command line: plan, start the server and the workers, and end them all."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from flows.send_command import send_and_report
from flows.server import prefect_server
from stockpot.experiment.opening import (
    hold_run_lock,
    make_plan,
    open_store,
    record_in_dvc,
    share_models,
)
from stockpot.experiment.plan import Plan
from stockpot.experiment.stages import STAGES
from stockpot.experiment.state import is_done, require_before, write_code_keys
from stockpot.workers import WorkersStopped
from tasks.session import Session, open_session

# Modules that take 0.5 s or more to import: they are imported while the server starts.
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
        open_store(plan)
        if all(is_done(plan, stage) for stage in stages):
            share_models(plan, stages)
            write_code_keys(plan)
            _record_in_dvc(plan, overrides, stages, console)
            send_and_report(plan, console)
            return False
        if len(stages) == 1:
            require_before(plan, stages[0])
        _check_tracking(plan)
        with (
            prefect_server(plan.project) as wait_for_server,
            open_session(params, overrides) as session,
            _interruptible(session),
        ):
            _run(session, params, stages, wait_for_server)
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
        console.print(objection, style="yellow", markup=False)


def _run(
    session: Session,
    params: str | None,
    stages: Sequence[str],
    wait_for_server: Callable[[], None],
) -> None:
    """Run the flow of one stage, or that of the experiment."""
    # Imported here: Prefect reads its settings from the environment when it is imported.
    from flows.experiment import run_experiment
    from flows.stage import flow_of
    from tasks.flow_runs import end_dead_runs
    from tasks.run_settings import everything_sent, run_flow

    flow = run_experiment if len(stages) == len(STAGES) else flow_of(stages[0])
    for stage in stages:
        if stage in _IMPORTED_BY and not is_done(session.plan, stage):
            importlib.import_module(_IMPORTED_BY[stage])
    wait_for_server()
    with everything_sent():
        end_dead_runs(session.root)
        run_flow(flow, params, session.overrides)


@contextmanager
def _interruptible(session: Session) -> Iterator[None]:
    """On Ctrl-C or SIGTERM, kill all workers and raise KeyboardInterrupt."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        session.workers.stop()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except WorkersStopped:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
