"""The fields of config.json that describe layers, for layers that are stacked in another order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from stockpot.storage.weights.model_config import read_config
from stockpot.storage.weights.tensor_names import stack_of

if TYPE_CHECKING:
    from stockpot.disk_merging.merge_files.merge_file import MergeFile
    from stockpot.storage.weights.sources import Source

LayerOrder = Sequence[tuple[Mapping[str, Any], int]]
"""Per layer of the output, the configuration of its model and its index there."""

_MOST_LAYERS = 10_000
_VISION = re.compile("vis|image")
_COUNTS = (
    "num_hidden_layers",
    "n_layer",
    "num_layers",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
    "num_blocks",
    "depth",
)
# With one entry per layer, if as long as there are layers.
_PER_LAYER = re.compile(
    r"\w*(layer|block|mlp|attention)\w*_types?|attention_layers|\w*pattern|no_rope_layers|layer\w*"
    r"|\w*heads|\w*intermediate_sizes?|\w*(window|multipliers|chunk)\w*|block_configs|\w*per_layer\w*"
)
# With the indices of layers of a kind.
_INDICES = re.compile(
    r"mlp_only_layers|moe_layers|(full_)?attn_(layer_)?(idxs?|indices)|cross_attention_layers"
    r"|attn_layer_indices|global_attention_layers|kv_source_layers|dense_layers"
)
_REPEATED = "attention_types"  # of GPT-Neo: lists of kinds, each with its number of repetitions
# With a rule by a layer's number.
_BY_NUMBER = re.compile(
    r"\w*(_period|_offset|_interval)|\w*every_n\w*|first_k_dense_replace|max_window_layers"
    r"|decoder_sparse_step|sliding_window_pattern|num_kv_shared_layers|interleave_moe_layer_step"
)


def layer_order(file: MergeFile, sources: Sequence[Source]) -> LayerOrder:
    """Return the configuration and the layer that each layer of the output is taken from.

    Of layers that are merged, these are the first model's.

    Args:
        file: how the models are merged; without layers, the order is empty.
        sources: the models of its entries.

    Raises:
        InputError: a config.json is not readable.
    """
    source_of = dict(zip([entry.key for entry in file.entries], sources, strict=True))
    firsts = [part.models[0] for part in file.layers]
    configs = {first.key: read_config(source_of[first.key].folder) for first in firsts}
    return [(configs[first.key], number) for first in firsts for number in range(*first.range)]


def set_layers(
    config: dict[str, Any], names: Iterable[str], layers: LayerOrder, stack: str | None = None
) -> list[str]:
    """Set the number of layers, and give each layer of the output what config.json says of it.

    Args:
        config: is changed.
        names: of the tensors of a model.
        layers: the source of each layer of the output.
        stack: the prefix of the layers' names, for models with several stacks of layers; None for
            the first one.

    Returns:
        What could not be set, in words.
    """
    if stack is None:
        stack = next(found for name in names if (found := stack_of(name)) is not None)
    section = _section_of(config, stack)
    moved = [(_section_of(theirs, stack), number) for theirs, number in layers]
    former = next((section[name] for name in _COUNTS if name in section), None)
    if former is None:
        return [
            f"warning: config.json: no field for the number of layers is known; write {len(layers)}"
            " into it"
        ]
    for field, value in section.items():
        section[field] = _of_moved(field, value, former, moved)
    numbered = [field for field in section if _BY_NUMBER.fullmatch(field) and section[field]]
    if not numbered or [number for _, number in layers] == [*range(len(layers))]:
        return []
    return [
        f"warning: config.json: {', '.join(numbered)} depend on the numbers of layers, which have "
        "changed; adapt them if the kinds of layers are wrong"
    ]


def _of_moved(field: str, value: Any, former: int, moved: LayerOrder) -> Any:
    """Return a field's value for the output.

    Args:
        field: its name.
        value: before.
        former: the number of layers before.
        moved: configuration and index of each layer of the output.
    """
    if field in _COUNTS and value == former:
        return len(moved)
    if _INDICES.fullmatch(field) and isinstance(value, list):
        lists = [theirs.get(field) for theirs, _ in moved]
        having = [
            number in (own if isinstance(own, list) else ())
            for own, (_, number) in zip(lists, moved, strict=True)
        ]
        return [place for place, has in enumerate(having) if has]
    own = _per_layer(field, value)
    if not own or len(own) != former:
        return value
    # Without a list of its own, a layer has the entry of the copied model; of one that is too
    # short, the last entry.
    given = [(_per_layer(field, theirs.get(field)) or own, number) for theirs, number in moved]
    entries = [values[min(number, len(values) - 1)] for values, number in given]
    if field == _REPEATED:
        return [[entries, 1]]
    return "".join(map(str, entries)) if isinstance(value, str) else entries


def _per_layer(field: str, value: Any) -> Sequence[Any]:
    """Return a field's entries by layer; none if it is about something else."""
    if field == _REPEATED:
        kinds = (
            kind
            for pair in (value if isinstance(value, list) else ())
            if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], int)
            if isinstance(pair[0], list) and pair[0]
            for _ in range(pair[1])
            for kind in pair[0]
        )
        return list(islice(kinds, _MOST_LAYERS))
    return value if isinstance(value, list | str) and _PER_LAYER.fullmatch(field) else ()


def _section_of(config: Any, stack: str) -> Any:
    """Return the nested configuration of the layers' part of the net, if there is one."""
    nested = config.get("vision_config" if _VISION.search(stack) else "text_config")
    return nested if isinstance(nested, dict) else config
