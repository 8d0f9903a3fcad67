"""The classes of a classifier's head, as config.json names them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.disk_merging.configs.meanings import Difference, Effect
from stockpot.errors import InputError
from stockpot.storage.weights.model_config import read_config
from stockpot.storage.weights.tensor_names import is_head

if TYPE_CHECKING:
    from stockpot.disk_merging.planning.plan import TensorPlan

_GENERATED = re.compile(r"(LABEL_)?\d+")  # by transformers, for classes without names
_NUM_CLASSES = 2  # its default


def labels_of(config: Mapping[str, Any]) -> list[str] | None:
    """Return the classes by id; None if config.json does not name them.

    Args:
        config: the content of config.json.
    """
    listed = config.get("id2label")
    if not isinstance(listed, Mapping) or not listed:
        return None
    try:
        by_id = {int(number): str(label) for number, label in listed.items()}
    except ValueError:
        return None
    labels = [by_id[number] for number in sorted(by_id)]
    return None if all(_GENERATED.fullmatch(label) for label in labels) else labels


def are_permuted(labels: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether the same classes have different ids, whatever their case."""
    own, other = ([label.casefold() for label in each] for each in (labels, others))
    return own != other and sorted(own) == sorted(other)


def compare_labels(configs: Mapping[str, Mapping[str, Any]]) -> Iterator[Difference]:
    """Yield the differences between the classes of models.

    Args:
        configs: by the models' names.
    """
    labels = {model: labels_of(config) for model, config in configs.items()}
    named = {model: own for model, own in labels.items() if own is not None}
    unnamed = [model for model, config in configs.items() if labels[model] is None]
    first = next(iter(named), "")
    for other in [*named][1:]:
        if (text := _difference(first, named[first], other, named[other])) is not None:
            is_obstacle = are_permuted(named[first], named[other])
            yield Difference(Effect.MEANINGLESS, text, is_obstacle)
    if named and unnamed:
        text = f"id2label has names in {', '.join(named)}, none in {', '.join(unnamed)}"
        yield Difference(Effect.RELEVANT, f"config.json: {text}")


def set_labels(
    config: dict[str, Any], candidates: Sequence[Sequence[str]], rows: Mapping[int, int]
) -> None:
    """Give a configuration as many classes as its head has rows.

    Args:
        config: is changed: if its head has other rows, the classes are the first candidates that
            are as many, or else numbers.
        candidates: the classes of the models that are merged, and of the base.
        rows: of heads, by the number of rows that the configuration was written for.
    """
    listed = config.get("id2label")
    num_classes = rows.get(len(listed) if isinstance(listed, Mapping) else _NUM_CLASSES)
    if num_classes is None:
        return
    generated = [f"LABEL_{number}" for number in range(num_classes)]
    labels = next((own for own in candidates if len(own) == num_classes), generated)
    config["id2label"] = {str(number): label for number, label in enumerate(labels)}
    config["label2id"] = {label: number for number, label in enumerate(labels)}
    if "num_labels" in config:
        config["num_labels"] = num_classes


def check_labels(plans: Sequence[TensorPlan]) -> None:
    """Refuse to merge heads whose rows are the same classes in another order.

    Args:
        plans: one per tensor.

    Raises:
        InputError: with the tensor, both models, and the first class that differs.
    """
    labels_in: dict[Path | None, list[str]] = {}
    for plan in plans:
        origins = [o for o in plan.origins if is_head(o.name) and o.source.folder is not None]
        for origin in origins:
            folder = origin.source.folder
            if folder not in labels_in:
                labels_in[folder] = labels_of(read_config(folder)) or []
        named = [o for o in origins if len(labels_in[o.source.folder]) in plan.type[1][:1]]
        for origin in named[1:]:
            labels, others = (labels_in[o.source.folder] for o in (named[0], origin))
            if are_permuted(labels, others):
                raise InputError(
                    f"tensor {plan.name!r}: its rows are {', '.join(labels)} in "
                    f"{named[0].source.path}, {', '.join(others)} in {origin.source.path} "
                    "(id2label in config.json); bring the rows and id2label of one model into the "
                    "other's order, or copy the head with `exclude`"
                )


def _difference(one: str, labels: list[str], other: str, others: list[str]) -> str | None:
    pairs = enumerate(itertools.zip_longest(labels, others))
    differing = [(number, a, b) for number, (a, b) in pairs if a != b]
    if not differing or [x.casefold() for x in labels] == [x.casefold() for x in others]:
        return None
    number, a, b = differing[0]
    kind = "the same classes in another order" if are_permuted(labels, others) else "other classes"
    return (
        f"config.json: id2label has {kind}: id {number} is {a!r} in {one}, {b!r} in {other}, so "
        "the rows of a head mean different classes"
    )
