"""A registered model in MLflow: its versions, and the aliases that mark the one in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stockpot.tracking.connection import ignoring
from stockpot.tracking.store import KEY, MlflowStore

_NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # of a model, of an alias


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of a registered model.

    Attributes:
        number: MLflow's number, from 1 on.
        run_id: MLflow's id of the run that made the model; empty if unknown.
        tags: what stockpot records about it.
    """

    number: int
    run_id: str
    tags: Mapping[str, str]


class ModelRegistry:
    """The versions of one registered model.

    All methods wait for the store, and raise StageFailed if it does not answer.
    """

    def __init__(self, store: MlflowStore, name: str) -> None:
        self.name = name
        self._store = store

    def alias(self, alias: str) -> RegisteredVersion | None:
        """Return the version with an alias; None if there is none."""
        return self._found(lambda client: client.get_model_version_by_alias(self.name, alias))

    def version(self, number: int) -> RegisteredVersion | None:
        """Return a version by its number; None if there is none."""
        return self._found(lambda client: client.get_model_version(self.name, str(number)))

    def versions(self, tag: str, value: str) -> list[RegisteredVersion]:
        """List the versions with a value of a tag, newest first."""
        where = f"name = '{self.name}' AND tags.`{tag}` = '{value}'"
        with self._store.asking() as client:
            found = map(_version, client.search_model_versions(where))
            return sorted(found, key=lambda version: -version.number)

    def register(
        self, key: str, checkpoint: str, digest: str, tags: Mapping[str, str]
    ) -> RegisteredVersion:
        """Create a version that refers to a checkpoint and to the model's run, if it was logged.

        Args:
            key: content key of the model.
            checkpoint: its file, relative to the project root.
            digest: SHA-256 of that file, hex.
            tags: tags of the version.
        """
        run = self._store.model_run(key)
        with self._store.asking() as client:
            with ignoring("RESOURCE_ALREADY_EXISTS"):
                client.create_registered_model(self.name, tags={"stockpot": "champion"})
            created = client.create_model_version(
                self.name,
                # MLflow stores no weights. A server refuses a plain path as the source.
                source=f"stockpot://sha256/{digest}/{checkpoint}",
                run_id=None if run is None else run.run_id,
                model_id=None if run is None else run.model_id,
                tags={**tags, KEY: key, "stockpot.digest": digest},
            )
            return _version(created)

    def set_alias(self, alias: str, number: int) -> None:
        """Give an alias to a version, and to no other."""
        with self._store.asking() as client:
            client.set_registered_model_alias(self.name, alias, str(number))

    def drop_alias(self, alias: str) -> None:
        """Remove an alias, if a version has it."""
        with self._store.asking() as client:
            client.delete_registered_model_alias(self.name, alias)

    def describe(self, number: int, text: str, tags: Mapping[str, str]) -> None:
        """Set the description (Markdown) of a version and some of its tags."""
        with self._store.asking() as client:
            client.update_model_version(self.name, str(number), text)
            for tag, value in tags.items():
                client.set_model_version_tag(self.name, str(number), tag, value)

    def _found(self, get: Callable[[Any], Any]) -> RegisteredVersion | None:
        found = None
        with self._store.asking() as client, ignoring(*_NOT_FOUND):
            found = get(client)
        return None if found is None else _version(found)


def _version(found: Any) -> RegisteredVersion:
    return RegisteredVersion(int(found.version), found.run_id or "", dict(found.tags))
