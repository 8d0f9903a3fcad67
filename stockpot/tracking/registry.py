"""A registered model in MLflow: its versions, and the aliases that say which one is in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpot.tracking.mlflow_store import MlflowStore

_UNKNOWN = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # of a model, of an alias


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of a registered model.

    Attributes:
        number: MLflow's, from 1 on.
        run_id: MLflow's id of the run that made the model; empty where it is not known.
        tags: what stockpot knows of it.
    """

    number: int
    run_id: str
    tags: Mapping[str, str]


class ModelRegistry:
    """The versions of one registered model; each method waits for the store's answer.

    All methods raise StageFailed if the store does not answer.
    """

    def __init__(self, store: MlflowStore, name: str) -> None:
        self.name = name
        self._store = store

    def alias(self, alias: str) -> RegisteredVersion | None:
        """Return the version that has an alias; None if none has."""
        return self._store.ask(
            lambda client, _: _or_none(client.get_model_version_by_alias, self.name, alias)
        )

    def version(self, number: int) -> RegisteredVersion | None:
        """Return a version by its number; None if there is none."""
        return self._store.ask(
            lambda client, _: _or_none(client.get_model_version, self.name, str(number))
        )

    def versions(self, tag: str, value: str) -> list[RegisteredVersion]:
        """List the versions with one value of a tag, the newest first."""
        where = f"name = '{self.name}' AND tags.`{tag}` = '{value}'"
        found = self._store.ask(lambda client, _: list(client.search_model_versions(where)))
        return sorted(map(_version, found), key=lambda version: -version.number)

    def register(
        self, key: str, checkpoint: str, digest: str, tags: Mapping[str, str]
    ) -> RegisteredVersion:
        """Make a version that refers to a checkpoint and, if it was logged, to the model's run.

        Args:
            key: the model's content key.
            checkpoint: its file, relative to the project root.
            digest: SHA-256 of that file, hex.
            tags: of the version.
        """
        run = self._store.find_model_run(key)

        def create(client: Any, _experiment: str) -> Any:
            _make_sure_of(client, self.name)
            return client.create_model_version(
                self.name,
                # MLflow holds no weights. A server refuses a plain path as the source.
                source=f"stockpot://sha256/{digest}/{checkpoint}",
                run_id=None if run is None else run.run_id,
                model_id=None if run is None else run.model_id,
                tags={**tags, "stockpot.key": key, "stockpot.digest": digest},
            )

        return _version(self._store.ask(create))

    def set_alias(self, alias: str, number: int) -> None:
        """Give an alias to a version, and to no other."""
        self._store.ask(
            lambda client, _: client.set_registered_model_alias(self.name, alias, str(number))
        )

    def drop_alias(self, alias: str) -> None:
        """Take an alias away, if a version has it."""
        self._store.ask(lambda client, _: client.delete_registered_model_alias(self.name, alias))

    def describe(self, number: int, text: str, tags: Mapping[str, str]) -> None:
        """Set the description (Markdown) of a version and some of its tags."""

        def write(client: Any, _experiment: str) -> None:
            client.update_model_version(self.name, str(number), text)
            for tag, value in tags.items():
                client.set_model_version_tag(self.name, str(number), tag, value)

        self._store.ask(write)


def _make_sure_of(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags={"stockpot": "champion"})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _or_none(get: Any, *arguments: str) -> RegisteredVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return _version(get(*arguments))
    except MlflowException as error:
        if error.error_code not in _UNKNOWN:
            raise
        return None


def _version(found: Any) -> RegisteredVersion:
    return RegisteredVersion(int(found.version), found.run_id or "", dict(found.tags))
