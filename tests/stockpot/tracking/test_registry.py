"""Versions and aliases of a registered model, in a real store."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import pytest
from mlflow.tracking.client import MlflowClient

from stockpot.errors import StageFailed
from stockpot.tracking.records import ModelRecord
from stockpot.tracking.registry import ModelRegistry
from stockpot.tracking.tracker import Tracker

SOUP = ModelRecord("greedy", "soup", key="key-soup", digest="ab" * 32, path="checkpoints/g")


@pytest.fixture
def registry(tracker: Tracker) -> ModelRegistry:
    tracker.log_model(SOUP)
    return tracker.registry(f"soups {uuid.uuid4().hex[:8]}")


def test_version_refers_to_checkpoint_and_run(
    tracker: Tracker, registry: ModelRegistry, client: MlflowClient
) -> None:
    made = registry.register("key-soup", "checkpoints/g", "ab" * 32, {"stockpot.model": "greedy"})

    read = client.get_model_version(registry.name, "1")
    assert (made.number, made.run_id) == (1, tracker.run_id("key-soup"))
    assert read.source == f"stockpot://sha256/{'ab' * 32}/checkpoints/g"
    assert read.run_id == made.run_id
    assert read.tags == {
        "stockpot.model": "greedy",
        "stockpot.key": "key-soup",
        "stockpot.digest": "ab" * 32,
    }


def test_a_model_without_a_run_can_be_registered(registry: ModelRegistry) -> None:
    made = registry.register("nobody", "checkpoints/x", "cd" * 32, {})

    assert (made.number, made.run_id) == (1, "")


def test_alias_belongs_to_one_version_at_a_time(registry: ModelRegistry) -> None:
    before = registry.alias("champion")
    for digest in ("aa", "bb"):
        registry.register("key-soup", "checkpoints/g", digest, {})
    registry.set_alias("champion", 1)

    registry.set_alias("champion", 2)
    moved = registry.alias("champion")
    registry.drop_alias("champion")

    assert before is None
    assert moved is not None
    assert (moved.number, moved.tags["stockpot.digest"]) == (2, "bb")
    assert registry.alias("champion") is None
    assert registry.version(2) == moved
    assert registry.version(3) is None


def test_unused_alias_can_be_dropped(registry: ModelRegistry) -> None:
    registry.register("key-soup", "checkpoints/g", "aa", {})

    registry.drop_alias("challenger")

    assert registry.alias("challenger") is None


def test_versions_are_found_by_a_tag_the_newest_first(registry: ModelRegistry) -> None:
    for digest in ("aa", "bb", "aa"):
        registry.register("key-soup", "checkpoints/g", digest, {})

    numbers = [version.number for version in registry.versions("stockpot.digest", "aa")]

    assert numbers == [3, 1]
    assert registry.versions("stockpot.digest", "cc") == []


def test_a_description_and_tags_can_be_added(registry: ModelRegistry, client: MlflowClient) -> None:
    registry.register("key-soup", "checkpoints/g", "aa", {})

    registry.describe(1, "it won", {"stockpot.replaced": "0"})

    read = client.get_model_version(registry.name, "1")
    assert (read.description, read.tags["stockpot.replaced"]) == ("it won", "0")


def test_registry_that_does_not_answer_is_a_stage_failure(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    registry = Tracker.open(uri, "soups", tmp_path, offline=True, tags={}).registry("soups")

    with pytest.raises(StageFailed, match=r"does not answer \(connection refused\); try again"):
        registry.alias("champion")
