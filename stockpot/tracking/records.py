"""What is logged, as plain values: of one model, and of one write that waits to be sent."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Dataset:
    """The data that a model was judged on.

    Attributes:
        name: e.g. `digits`.
        digest: of the data, hex; MLflow keeps 36 characters, so that many are sent.
        context: what it was for: `train`, `val`, `test` or a shift.
    """

    name: str
    digest: str
    context: str


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """What is logged of one model.

    Attributes:
        name: the run's name, e.g. `ingredient-03`.
        kind: base, ingredient, soup, tuned or ensemble.
        key: the content key; a key is logged once in an experiment, then linked.
        digest: SHA-256 of the checkpoint, hex; empty where there is no file.
        path: of the checkpoint, relative to the project; empty where there is no file.
        params: hyperparameters or recipe, flat.
        metrics: e.g. `val/accuracy`.
        curves: values by step, e.g. the score after each step of a greedy selection.
        tags: besides those that stockpot sets itself.
        inputs: keys of the models that this one was made from.
        datasets: what the metrics were measured on.
        status: FINISHED, or FAILED with a `reason`.
        reason: why it failed.
        note: Markdown, shown at the top of the run's page.
        seconds: how long the work took, if it is known.
        files: text files of the run by name, e.g. what it takes to make the model again.
    """

    name: str
    kind: str
    key: str
    digest: str = ""
    path: str = ""
    params: Mapping[str, Scalar] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    status: Literal["FINISHED", "FAILED"] = "FINISHED"
    reason: str = ""
    note: str = ""
    seconds: float = 0.0
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError(f"model record {self.name!r}: key must not be empty, got ''")

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelRecord:
        """Return the record that `to_json` gave."""
        tuples = {
            "curves": {name: tuple(curve) for name, curve in values["curves"].items()},
            "inputs": tuple(values["inputs"]),
            "datasets": tuple(Dataset(**dataset) for dataset in values["datasets"]),
        }
        return cls(**{**values, **tuples})


@dataclass(frozen=True, slots=True)
class Record:
    """One write to a tracking store.

    Attributes:
        id: unique; a run made by the record carries it, so that it is never made twice.
        action: what is written, one of the names of `MlflowStore.send`.
        pipeline: the pipeline run's own id, since MLflow's id of it may not exist yet.
        time_ms: when it happened, which may be long before it is sent.
        content: JSON values.
    """

    action: str
    pipeline: str
    content: Mapping[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @property
    def title(self) -> str:
        """What the record is, for messages."""
        name = self.content.get("name") or self.content.get("key") or ""
        return f"{self.action} {name!r}" if name else self.action

    def to_text(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_text(cls, text: str) -> Record:
        """Return the record that `to_text` gave.

        Raises:
            ValueError: the text is not that of a record.
        """
        try:
            values = json.loads(text)
            return cls(**{name: values[name] for name in cls.__slots__})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a tracking record ({error})") from error
