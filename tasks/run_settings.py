"""Run Prefect flows with the settings of the open session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import prefect
from prefect import Flow
from prefect.context import TagsContext
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.runtime import flow_run
from prefect.settings import temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.flow_runs import hold_lease, project_tags, run_name
from tasks.session import Session, current_session, open_session


def run_flow(
    flow: Flow[[str | None, tuple[str, ...]], Any], params: str | None, overrides: tuple[str, ...]
) -> None:
    """Run a flow, named and tagged after its experiment, with as many tasks at once as workers.

    Other tasks are shown as pending: each waits for a worker and its device.

    The flow gives no signs of life: the flow around it does, or the process that called the
    command. The thread of a flow's heartbeats sleeps in steps of a second, and every flow waits for
    it at its end: 7 s for an experiment of six stages.
    """
    session = current_session()
    runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=len(session.workers.devices))
    name = run_name(session.plan)
    # The environment can set no interval that turns heartbeats off.
    with (
        temporary_settings({"flows.heartbeat_frequency": None}),
        prefect.tags(*project_tags(session.root)),
    ):
        flow.with_options(task_runner=runner, flow_run_name=name)(params, overrides)


@contextmanager
def flow_session(params: str | None, overrides: tuple[str, ...]) -> Iterator[Session]:
    """Open the session of a flow, or use the one that is open; its tasks get no tags.

    They would inherit those of their flow. Prefect asks the server for a concurrency slot per tag
    before and after each task; with SQLite, some of these calls fail and are repeated 2 s later.
    """
    with open_session(params, overrides) as session, TagsContext(current_tags=set()):
        hold_lease(session.root, flow_run.id)
        try:
            yield session
        except Exception:
            raise
        except BaseException:  # an interrupt, or what Prefect raises on SIGTERM
            # The flow waits for its tasks before it ends, and they for the workers.
            session.workers.stop()
            raise


@contextmanager
def everything_sent() -> Iterator[None]:
    """Send all logs and events before the block is left, since the server may end right after it.

    Without this, Prefect sends them when the process exits: with no server to answer, it repeats
    each request for up to a minute.
    """
    seconds = 60.0
    try:
        yield
    except Exception:
        raise
    except BaseException:  # an interrupt, which is to end the run at once
        seconds = 1.0
        raise
    finally:
        for queue in (APILogWorker, EventsWorker):
            queue.drain_all(timeout=seconds)
