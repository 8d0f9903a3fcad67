"""The config.json of a merged model: every field that describes tensors, as they are written.

It starts as a copy of one model's. Fields that count rows are changed where that model's tensors
have as many rows as the field says and the written ones have others, so that a field which means
something else is left alone.
"""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stockpot.disk_merging.configs.differences import flattened, shown
from stockpot.disk_merging.configs.labels import labels_of, set_labels
from stockpot.disk_merging.configs.layer_fields import LayerOrder, set_layers
from stockpot.disk_merging.planning.tied_heads import TIE, declared_tie
from stockpot.errors import InputError, some_of
from stockpot.storage.weights.hub_origins import shown_name
from stockpot.storage.weights.model_config import CONFIG, read_config
from stockpot.storage.weights.quantized.claims import without_quantization
from stockpot.storage.weights.shards import TensorType
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import (
    is_head,
    stored_twice,
    tied_names,
    token_axis,
)

T = TypeVar("T")
Config = dict[str, Any]
Written = Mapping[str, TensorType]

_QUANTIZATION = re.compile(r"(.*\.)?(quantization(_config)?|compression_config)(?=\.|$)")
_POSITIONS = re.compile(r"(^|\.)(wpe|embed_positions|position_embeddings?|pos_embed)(\.weight)?$")
_TOKEN_TYPES = re.compile(r"(^|\.)token_type_embeddings\.weight$")


def _has_token_rows(name: str) -> bool:
    return token_axis(name) == 0


# Tensors whose rows are counted, and the fields that count them.
# The third entry: how many rows more than the field says there may be.
_COUNTED: Sequence[tuple[Callable[[str], object], str, tuple[int, ...]]] = (
    (_has_token_rows, r"\w*vocab_size(_per_layer_input)?", (0,)),
    (_TOKEN_TYPES.search, r"type_vocab_size", (0,)),
    (_POSITIONS.search, r"n_positions|n_ctx|max_(source_|target_)?position(s|_embeddings)", (0, 2)),
)
# Nested configurations whose tensors do not contain their name.
_PART_OF = {"text": r"text|language_model|lm_head|embed_tokens", "vision": r"vis|image"}


@dataclass(frozen=True, slots=True)
class TrueConfig:
    """The configuration of a merged model.

    Attributes:
        content: of its config.json; empty without one.
        notes: what differs from the model that it was copied from, in words.
    """

    content: Config
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Part:
    """A model, or one of the components that have folders of their own.

    Attributes:
        path: its folder, or the model's file.
        config: the content of its config.json; empty without one.
        shapes: of its tensors, by the names that they have in its own files.
    """

    path: Path
    config: Config
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, model: Source, component: str) -> _Part:
        folder = None if model.folder is None else model.folder / component
        stored = _of_component(model.tensors, component)
        shapes = {name: tensor.shape for name, tensor in stored.items()}
        return cls(folder or model.path, read_config(folder), shapes)


def _of_component(named: Mapping[str, T], component: str) -> dict[str, T]:
    """Return what belongs to a component, by the names in its own files."""
    prefix = f"{component}/" if component else ""
    inside = {n.removeprefix(prefix): each for n, each in named.items() if n.startswith(prefix)}
    return {name: each for name, each in inside.items() if "/" not in name}


def true_configs(
    own: Source,
    models: Sequence[Source],
    written: Written,
    layers: LayerOrder = (),
    stack: str | None = None,
) -> dict[str, TrueConfig]:
    """Return the config.json of a merged model, and those of its components.

    Args:
        own: the model whose config.json is copied.
        models: all models that are merged, and the base.
        written: dtype and shape of each tensor of the output.
        layers: configuration and layer that each layer of the output is taken from; empty if
            models are merged whole.
        stack: see `set_layers`.

    Returns:
        The configurations by their path in the model's folder.

    Raises:
        InputError: the sizes in them are not those of the tensors that are written.
    """
    configs = {}
    for component in own.components:
        part = _Part.of(own, component)
        if part.config:
            parts = [_Part.of(model, component) for model in models]
            path = f"{component}/{CONFIG}" if component else CONFIG
            config = _true_config(part, parts, _of_component(written, component), layers, stack)
            notes = [note.replace(CONFIG, path, 1) for note in config.notes]
            configs[path] = TrueConfig(config.content, notes)
    return configs


def _true_config(
    own: _Part, models: Sequence[_Part], written: Written, layers: LayerOrder, stack: str | None
) -> TrueConfig:
    config: Config = without_quantization(copy.deepcopy(own.config))
    if layers:
        notes = set_layers(config, models[0].shapes, layers, stack)
    else:
        _check_shapes(own, written)
        notes = _lacking(own, written)
    _set_rows(config, own, written)
    labels = [labels_of(model.config) or [] for model in models]
    set_labels(config, labels, _changed_rows(own, written, _is_classifier))
    _set_dtype(config, written)
    _set_tie(config, models, written)
    return TrueConfig(config, [*_changes(own.config, config), *notes])


def _changes(former: Config, config: Config) -> Iterator[str]:
    """Say what has changed, and that the reason is in the weights."""
    before, after = flattened(former), flattened(config)
    removed = [field for field in before if _QUANTIZATION.match(field) and field not in after]
    for field in dict.fromkeys([*before, *after]):
        value = after.get(field)
        is_same = before.get(field) is value or before.get(field) == value  # NaN is not NaN
        if field not in removed and not is_same:
            yield (
                f"config.json: {field} is {shown(value)}, as the weights are, instead "
                f"of {shown(before.get(field))}"
            )
    for section in dict.fromkeys(
        match[0] for field in removed if (match := _QUANTIZATION.match(field))
    ):
        yield f"config.json: {section} is removed, as the weights are not quantised"


def _sections(config: Config) -> list[Config]:
    """Return the configuration and all that are nested in it."""
    nested = [value for value in config.values() if isinstance(value, dict)]
    return [config, *(section for inner in nested for section in _sections(inner))]


def _set_dtype(config: Config, written: Written) -> None:
    for name, section in [("", config), *config.items()]:
        if not isinstance(section, dict):
            continue
        dtype = _most_frequent_dtype(written, name.removesuffix("_config") if name else "")
        for field in ("dtype", "torch_dtype"):
            if dtype and isinstance(section.get(field), str) and section[field] != "auto":
                section[field] = dtype


def _most_frequent_dtype(written: Written, part: str) -> str | None:
    """Return the dtype of most numbers in a part of the net, or else in all of it."""
    pattern = re.compile(_PART_OF.get(part, re.escape(part)))
    inside = [kind for name, kind in written.items() if pattern.search(name)]
    sizes: Counter[str] = Counter()
    for dtype, shape in inside or written.values():
        if dtype.is_floating_point:
            sizes[str(dtype).removeprefix("torch.")] += math.prod(shape)
    return sizes.most_common(1)[0][0] if sizes else None


def _set_tie(config: Config, models: Sequence[_Part], written: Written) -> None:
    """Say that the head is tied where none is written, and the reverse."""
    declared = [declared_tie(model.config) for model in models]
    pair = tied_names(dict.fromkeys(name for model in models for name in model.shapes))
    own = declared_tie(config)
    if pair is None:  # no model stores a head
        is_tied = own is False and any(declared)
        lies = is_tied
    elif pair[1] in written:
        is_tied = False
        lies = own or (own is None and any(pair[1] not in model.shapes for model in models))
    else:
        is_tied = True
        lies = not own and False not in declared
    if not lies:
        return
    for section in [each for each in _sections(config) if TIE in each] or [config]:
        section[TIE] = is_tied


def _set_rows(config: Config, own: _Part, written: Written) -> None:
    for is_counted, fields, offsets in _COUNTED:
        rows = _changed_rows(own, written, is_counted)
        for section in _sections(config):
            for field, value in section.items():
                if not re.fullmatch(fields, field) or not isinstance(value, int):
                    continue
                for offset in offsets:
                    if value + offset in rows:
                        section[field] = rows[value + offset] - offset


def _changed_rows(
    own: _Part, written: Written, is_counted: Callable[[str], object]
) -> dict[int, int]:
    """Return the numbers of rows that tensors have in a model, with those that are written."""
    rows = {}
    for name, (_, shape) in written.items():
        former = own.shapes.get(name, ())
        if is_counted(name) and shape and former and shape[0] != former[0]:
            rows[former[0]] = shape[0]
    return rows


def _is_classifier(name: str) -> bool:
    return is_head(name) and token_axis(name) is None


def _check_shapes(own: _Part, written: Written) -> None:
    """Refuse a configuration of a net of other sizes.

    Raises:
        InputError: a tensor has another shape, apart from rows that config.json counts.
    """
    for name, (_, shape) in written.items():
        former = own.shapes.get(name, shape)
        if former == shape:
            continue
        axis = token_axis(name)
        is_counted = _is_classifier(name) or any(counted(name) for counted, *_ in _COUNTED)
        others = [size[: axis or 0] + size[(axis or 0) + 1 :] for size in (former, shape)]
        if not (is_counted or axis) or others[0] != others[1]:
            raise InputError(
                f"{own.path}: its config.json cannot be that of the output: tensor {name!r} has "
                f"shape {former}, the output's has {shape}; name another model in config_from"
            )


def _lacking(own: _Part, written: Written) -> list[str]:
    """Say which tensors config.json does not know, as the model that it is copied from."""
    pair = tied_names({**written, **own.shapes})
    known = {*own.shapes, *stored_twice({**written, **own.shapes}), *(pair or ())}
    names = [name for name in written if name not in known]
    if not names or not own.shapes:  # a folder with config.json alone
        return []
    return [
        f"config.json is that of {shown_name(own.path)}, which lacks {some_of(names)}; to load "
        "them, name a model that has them in config_from"
    ]
