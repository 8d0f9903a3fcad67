"""Automations on the server: dead runs are marked and started again, failures are reported."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from stockpot.errors import InputError
from tasks.flow_runs import TAG

RETRY_TAG = "retry-after-crash"
"""The tag of deployments whose runs are started again if their process dies."""

_SECONDS_OF_SILENCE = 90  # three heartbeats; Prefect allows none more often than every 30 s
_ANY = "prefect.flow-run.*"
_STARTING = frozenset(
    f"prefect.flow-run.{name}" for name in ("Pending", "Submitting", "InfrastructurePending")
)
_MESSAGE = (
    "Flow run {{ flow_run.name }} is {{ flow_run.state.name }}: {{ flow_run.state.message }}\n"
    "{{ flow_run|ui_url }}"
)


def watch_runs(client: SyncPrefectClient, seconds_to_start: int) -> None:
    """Let the server mark dead runs of stockpot as crashed, and start those again that want it.

    It needs no process on the machine of a run: a run that has begun must give a sign of life
    every 90 s, one that was submitted must begin in time.

    Args:
        client: of the server.
        seconds_to_start: from the submission of a run until it begins.
    """
    silent = _expected_within(_SECONDS_OF_SILENCE, {"prefect.flow-run.heartbeat"})
    late = _expected_within(seconds_to_start, _STARTING)
    for title, trigger, message in (
        ("a silent run is crashed", silent, f"no sign of life for {_SECONDS_OF_SILENCE} s"),
        ("a run that does not begin is crashed", late, f"did not begin in {seconds_to_start} s"),
    ):
        crash = ChangeFlowRunState(state=StateType.CRASHED, message=message)
        _put(client, AutomationCore(name=f"{TAG}: {title}", trigger=trigger, actions=[crash]))
    again = ChangeFlowRunState(
        state=StateType.SCHEDULED, name="AwaitingRetry", message="its process died"
    )
    crashed = EventTrigger(
        expect={"prefect.flow-run.Crashed"},
        match={"prefect.resource.id": _ANY},
        match_related={"prefect.resource.id": f"prefect.tag.{RETRY_TAG}"},
        posture=Posture.Reactive,
    )
    name = f"{TAG}: a crashed run with the tag {RETRY_TAG} is started again"
    _put(client, AutomationCore(name=name, trigger=crashed, actions=[again]))


def notify_of_failures(
    client: SyncPrefectClient, project: str, deployments: Collection[UUID], target: str
) -> None:
    """Let the server send a message when a run of these deployments fails or crashes.

    Args:
        client: of the server.
        project: its tag.
        deployments: their ids.
        target: the address of a webhook, which gets JSON with the field `text` (as Slack's and
            Mattermost's do); or `TYPE/NAME` of a notification block on the server.

    Raises:
        InputError: there is no such block.
    """
    block = _webhook(project, target) if "://" in target else _existing_block(client, target)
    trigger = EventTrigger(
        expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
        match={"prefect.resource.id": _ANY},
        match_related={
            "prefect.resource.role": "deployment",
            "prefect.resource.id": [f"prefect.deployment.{each}" for each in deployments],
        },
        posture=Posture.Reactive,
    )
    send = SendNotification(block_document_id=block, subject=f"{TAG} {project}", body=_MESSAGE)
    name = f"{TAG}: failures of {project} are reported"
    _put(client, AutomationCore(name=name, trigger=trigger, actions=[send]))


def _expected_within(seconds: int, after: Collection[str]) -> EventTrigger:
    """Return the trigger for deployed runs that are silent for so long after some events.

    Subflows do not count: fewer events, of which SQLite would refuse some to a busy server. The
    next run ends those of a dead run.
    """
    return EventTrigger(
        after=set(after),
        expect={_ANY},
        match={"prefect.resource.id": _ANY},
        match_related=[
            {"prefect.resource.role": "deployment"},
            {"prefect.resource.id": f"prefect.tag.{TAG}"},
        ],
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=seconds),
    )


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create an automation, or replace the one with its name."""
    existing = client.read_automations_by_name(automation.name)
    if existing:
        client.update_automation(existing[0].id, automation)
    else:
        client.create_automation(automation)


def _webhook(project: str, address: str) -> UUID:
    """Save a notification block for a webhook, one per project; return its id."""
    webhook = CustomWebhookNotificationBlock(
        name=TAG, url=address, json_data={"text": "{{subject}}\n{{body}}"}
    )
    name = f"{TAG}-{hashlib.sha256(project.encode()).hexdigest()[:12]}"
    saved = webhook.save(name, overwrite=True)
    assert isinstance(saved, UUID)  # outside an event loop
    return saved


def _existing_block(client: SyncPrefectClient, target: str) -> UUID:
    kind, _, name = target.partition("/")
    try:
        found: UUID = client.read_block_document_by_name(name, kind).id
    except ObjectNotFound:
        raise InputError(
            f"--notify: must be the address of a webhook, or TYPE/NAME of a notification block on "
            f"the server, got {target!r}; `prefect block ls` lists them"
        ) from None
    return found
