from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.events import Event, Resource
from prefect.events.clients import EventsClient
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.run_settings import everything_sent

sent: list[Event] = []


class SlowClient(EventsClient):
    """Sends an event in 0.2 s."""

    async def _emit(self, event: Event) -> None:
        await asyncio.sleep(0.2)
        sent.append(event)


class StuckClient(EventsClient):
    """Repeats a request to a server that does not answer, as Prefect's does."""

    async def _emit(self, _event: Event) -> None:
        await asyncio.sleep(5)


@pytest.fixture
def _no_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    async def attach_nothing(_worker: EventsWorker, _event: Event) -> None:
        pass

    monkeypatch.setattr(EventsWorker, "attach_related_resources_from_context", attach_nothing)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


def _emit(client: type[Any], count: int) -> None:
    worker = EventsWorker.instance(client)
    for number in range(count):
        resource = Resource({"prefect.resource.id": f"test.{number}"})
        worker.send(Event(event="test", resource=resource))


def _interrupt_after_an_event() -> None:
    with everything_sent():
        _emit(StuckClient, 1)
        raise KeyboardInterrupt


@pytest.mark.usefixtures("_no_server")
def test_events_are_sent_before_the_server_ends() -> None:
    with everything_sent():
        _emit(SlowClient, 4)

    assert len(sent) == 4


@pytest.mark.usefixtures("_no_server")
def test_an_interrupt_does_not_wait_for_a_server_that_does_not_answer() -> None:
    start = time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        _interrupt_after_an_event()

    assert time.monotonic() - start < 3
