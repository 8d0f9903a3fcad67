"""The frame of all stage flows: earlier stages are checked, and finished work is skipped."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from prefect import Flow, State, flow
from prefect.states import Completed

from stockpot.experiment.opening import share_models
from stockpot.experiment.stages import all_before
from stockpot.experiment.state import is_done, require_before
from tasks.run_settings import flow_session
from tasks.session import Session

StageFlow = Flow[[str | None, tuple[str, ...]], State[None] | None]

FLOWS: dict[str, StageFlow] = {}
"""The flows of the stages whose modules are imported, by stage."""


def flow_of(name: str) -> StageFlow:
    """Return the flow of a stage, which is defined in `flows/<name>.py`."""
    importlib.import_module(f"flows.{name}")
    return FLOWS[name]


def stage(name: str) -> Callable[[Callable[[Session], None]], StageFlow]:
    """Decorate the work of a stage: the result is its flow, which takes `params` and `overrides`.

    The flow does nothing if the stage is up to date and all its models are in MLflow, and refuses
    to start on results of earlier stages that are not up to date. A stage whose models MLflow
    lacks, since it was run in another MLflow experiment or on another machine, is run again: it
    finds the models in the store, and records them. Models of a finished stage that a shared store
    lacks are uploaded.
    """

    def decorate(work: Callable[[Session], None]) -> StageFlow:
        def run(params: str | None = None, overrides: tuple[str, ...] = ()) -> State[None] | None:
            with flow_session(params, overrides) as session:
                require_before(session.plan, name)
                if is_done(session.plan, name) and session.has_recorded(name):
                    share_models(session.plan, [name])
                    return Completed(name="Skipped", message="up to date")
                for earlier in all_before(name):
                    if not session.has_recorded(earlier):
                        flow_of(earlier)(params, overrides)
                work(session)
            return None

        # Prefect describes a flow, and finds it again for a deployment, by these.
        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(run, attribute, getattr(work, attribute))
        FLOWS[name] = flow(name=name)(run)
        return FLOWS[name]

    return decorate
