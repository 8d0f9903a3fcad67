"""compose.yaml and Dockerfile, read as data: there is no Docker where the tests run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "USER", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_services_that_say_when_they_are_healthy(name: str) -> None:
    awaited = SERVICES[name].get("depends_on", {})

    assert all("healthcheck" in SERVICES[other] for other in awaited)
    assert all(each == {"condition": "service_healthy"} for each in awaited.values())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_mounts_what_is_declared_and_opens_ports_on_this_machine_alone(name: str) -> None:
    service = SERVICES[name]
    sources = {volume.partition(":")[0] for volume in service.get("volumes", [])}
    configs = {config["source"] for config in service.get("configs", [])}

    assert sources - {"."} <= COMPOSE["volumes"].keys()
    assert configs <= COMPOSE["configs"].keys()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_no_password_is_written_down() -> None:
    text = (ROOT / "compose.yaml").read_text()
    passwords = re.findall(r"://[^:/@\s]+:([^@\s]+)@", text)

    assert set(passwords) == {"${POSTGRES_PASSWORD}"}


@pytest.mark.parametrize("name", [name for name in SERVICES if "command" in SERVICES[name]])
def test_a_service_runs_a_program_of_the_image(name: str) -> None:
    assert shutil.which(SERVICES[name]["command"][0])


def test_databases_that_servers_use_are_created() -> None:
    text = (ROOT / "compose.yaml").read_text()
    used = set(re.findall(r"@postgres/(\w+)", text))
    created = set(re.findall(r"CREATE DATABASE (\w+)", COMPOSE["configs"]["databases"]["content"]))

    assert used == created | {SERVICES["postgres"]["environment"]["POSTGRES_DB"]}


def test_the_dockerfile_copies_what_exists_and_what_is_not_ignored() -> None:
    copied = [word for name, rest in instructions() if name == "COPY" for word in rest.split()[:-1]]
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }

    assert {name for name, _ in instructions()} <= INSTRUCTIONS
    assert all((ROOT / path).exists() for path in copied)
    assert set(copied) == kept


def test_the_image_does_not_run_as_root() -> None:
    users = [rest for name, rest in instructions() if name == "USER"]

    assert users == ["cook"]
