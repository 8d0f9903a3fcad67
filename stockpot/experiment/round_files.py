"""The files of unfinished rounds, from which a killed run continues bit for bit.

`.stockpot/rounds/<key>/` has `state.safetensors`, the merged model and the rule's memory after the
last finished round, which names the files of what clients keep (`own-<client>-<round>`); the models
of clients that have finished the present round (`update-<round>-<client>`); and a record per
finished round (`round-<number>.json`). The state is written after all files that it needs and
before those that are no longer needed are deleted. `lost.json` lists the clients that were left out
because their worker died or took too long: the model depends on it, so it is never deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.storage.atomic_files import write_json
from stockpot.storage.checkpoints import load_tensors, read_metadata, save_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.states import State
    from stockpot.soups.rounds.rule import Merged

LOST = "lost.json"
_STATE = "state.safetensors"
_WEIGHTS, _MEMORY = "weights/", "memory/"


@dataclass(frozen=True, slots=True)
class Update:
    """A client's update in a round.

    Attributes:
        loss: of its first step, before it has learned anything in this round.
        diverged: why it has no model; empty if it has one.
        path: the file of its model.
    """

    loss: float
    diverged: str
    path: Path


@dataclass(frozen=True, slots=True)
class RoundFiles:
    """The files of one sequence of rounds.

    Attributes:
        folder: of these files alone.
    """

    folder: Path

    @property
    def number(self) -> int | None:
        """The number of finished rounds; None if nothing has been started."""
        header = self._header()
        return int(header["round"]) if header else None

    def model(self) -> dict[str, Tensor]:
        """Return the merged model after the last finished round."""
        return self._stored(_WEIGHTS)

    def memory(self) -> dict[str, Tensor]:
        """Return the rule's memory after the last finished round."""
        return self._stored(_MEMORY)

    def own(self) -> Mapping[int, State]:
        """Return what each client keeps, read from its file when it is looked up."""
        names = json.loads(self._header().get("own", "{}"))
        return _Files({int(client): self.folder / name for client, name in names.items()})

    def save(self, number: int, merged: Merged, record: Mapping[str, Any]) -> None:
        """Save the result of a round, which is then finished; delete what it was made from."""
        names = json.loads(self._header().get("own", "{}"))
        for client, tensors in merged.own.items():
            names[str(client)] = name = f"own-{client}-{number}.safetensors"
            save_checkpoint(self.folder / name, tensors, {})
        if number:
            write_json(self._record(number), record)
        tensors = {
            f"{where}{name}": tensor
            for where, state in ((_WEIGHTS, merged.weights), (_MEMORY, merged.memory))
            for name, tensor in state.items()
        }
        header = {"round": str(number), "own": json.dumps(names, sort_keys=True)}
        save_checkpoint(self.folder / _STATE, tensors, header)
        self._delete_unused({*names.values()})

    def records(self) -> list[dict[str, Any]]:
        """Return the records of all finished rounds."""
        numbers = range(1, (self.number or 0) + 1)
        return [self.record(number) for number in numbers]

    def record(self, number: int) -> dict[str, Any]:
        """Return the record of a finished round."""
        record: dict[str, Any] = json.loads(self._record(number).read_text("utf-8"))
        return record

    def save_update(self, number: int, client: int, model: State, loss: float) -> None:
        """Save a client's model of the present round."""
        path = self._update(number, client)
        save_checkpoint(path, model, {"loss": repr(loss)})

    def save_diverged(self, number: int, client: int, reason: str) -> None:
        """Record that a client has no model in the present round."""
        write_json(self._update(number, client).with_suffix(".json"), {"diverged": reason})

    def update(self, number: int, client: int) -> Update | None:
        """Return what a client has sent in the present round; None if it has not finished."""
        path = self._update(number, client)
        if path.is_file():
            return Update(float(read_metadata(path)["loss"]), "", path)
        if path.with_suffix(".json").is_file():
            content = json.loads(path.with_suffix(".json").read_text("utf-8"))
            return Update(float("nan"), content["diverged"], path)
        return None

    def save_lost(self, number: int, reasons: Mapping[int, str]) -> None:
        """Leave clients out of a round for good, with the reason; one that has finished stays."""
        if number <= (self.number or 0):  # merged already; the files of its clients are deleted
            return
        lost = self.lost()
        for client, reason in reasons.items():
            if self.update(number, client) is None:
                lost.setdefault(number, {})[client] = reason
        if lost:
            write_json(self.folder / LOST, lost)

    def lost(self) -> dict[int, dict[int, str]]:
        """Return why clients were left out, by round and client."""
        path = self.folder / LOST
        content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        return {
            int(number): {int(client): reason for client, reason in reasons.items()}
            for number, reasons in content.items()
        }

    def clear(self) -> None:
        """Delete everything, except which clients were left out."""
        (self.folder / _STATE).unlink(missing_ok=True)
        for path in [*self.folder.glob("*")]:
            if path.name != LOST:
                path.unlink(missing_ok=True)

    def _delete_unused(self, used: set[str]) -> None:
        """Delete the models of clients of finished rounds, and what clients no longer keep."""
        for path in [*self.folder.glob("update-*"), *self.folder.glob("own-*")]:
            if path.name not in used:
                path.unlink(missing_ok=True)

    def _header(self) -> dict[str, str]:
        path = self.folder / _STATE
        return read_metadata(path) if path.is_file() else {}

    def _stored(self, prefix: str) -> dict[str, Tensor]:
        tensors = load_tensors(self.folder / _STATE)
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    def _update(self, number: int, client: int) -> Path:
        return self.folder / f"update-{number}-{client}.safetensors"

    def _record(self, number: int) -> Path:
        return self.folder / f"round-{number}.json"


class _Files(Mapping[int, "State"]):
    """Tensors by client, each read from its file when it is looked up."""

    def __init__(self, paths: Mapping[int, Path]) -> None:
        self._paths = paths

    def __getitem__(self, client: int) -> State:
        return load_tensors(self._paths[client])

    def __iter__(self) -> Iterator[int]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)
