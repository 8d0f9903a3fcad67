"""The values that are logged: one model, and one write that waits in the outbox."""

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
    """A dataset that a run used.

    Attributes:
        name: e.g. `digits`.
        digest: content digest, hex; MLflow stores the first 36 characters.
        context: what the data was used for: `train`, `val`, `test` or a shift.
    """

    name: str
    digest: str
    context: str


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """Everything that is logged about one model.

    Attributes:
        name: the run's name, e.g. `ingredient-03`.
        kind: base, ingredient, soup, tuned or ensemble.
        key: content key; a key is logged once per experiment, and linked after that.
        digest: SHA-256 of the checkpoint, hex; empty if there is no file.
        path: path of the checkpoint, relative to the project; empty if there is no file.
        params: hyperparameters or recipe, flat.
        metrics: e.g. `val/accuracy`.
        curves: values per step, e.g. the score after each step of a greedy selection.
        tags: tags besides those that stockpot sets itself.
        inputs: keys of the models that this one was made from.
        datasets: the data that the metrics were measured on.
        status: FINISHED, or FAILED with a `reason`.
        reason: why the model failed.
        note: Markdown, shown at the top of the run's page.
        seconds: duration of the work; 0 if unknown.
        files: text files of the run by name, e.g. the model's provenance.
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


@dataclass(frozen=True, slots=True)
class Record:
    """One write to a tracking store.

    Attributes:
        action: the kind of write, a key of `writes.ACTIONS`.
        pipeline: stockpot's own id of the pipeline run, since MLflow's id may not exist yet.
        content: JSON values, or dataclasses of such.
        id: unique; a run created by the record carries it as a tag, so it is created only once.
        time_ms: when the event happened, which may be long before the record is sent.
    """

    action: str
    pipeline: str
    content: Mapping[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @property
    def title(self) -> str:
        """Action and name, for messages."""
        name = self.content.get("name") or self.content.get("key") or ""
        return f"{self.action} {name!r}" if name else self.action

    def to_text(self) -> str:
        """Serialize to JSON text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_text(cls, text: str) -> Record:
        """Invert `to_text`.

        Raises:
            ValueError: the text is not a serialized record.
        """
        try:
            values = json.loads(text)
            return cls(**{name: values[name] for name in cls.__slots__})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a tracking record ({error})") from error


def flatten(values: Mapping[str, Any], *, number_lists: bool = False) -> dict[str, Any]:
    """Flatten nested mappings to dotted names.

    Args:
        values: nested mappings; an empty one is a leaf.
        number_lists: also flatten lists that contain mappings, by position: `soups.0.name`.

    Returns:
        Dotted name -> leaf, in the order of `values`.
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = value
        if number_lists and isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
            inner = {str(number): item for number, item in enumerate(value)}
        if isinstance(inner, Mapping) and inner:
            leaves = flatten(inner, number_lists=number_lists)
            flat |= {f"{name}.{leaf}": leaf_value for leaf, leaf_value in leaves.items()}
        else:
            flat[name] = value
    return flat
