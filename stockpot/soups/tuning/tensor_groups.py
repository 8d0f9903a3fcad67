"""Groups of tensors with values of their own: layers by depth, or names by patterns."""

from __future__ import annotations

import glob
from collections.abc import Collection, Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from stockpot.errors import InputError
from stockpot.yaml_files import Section


class LayerGroups(Section):
    """Groups of consecutive layers, each with values of its own."""

    layer_group: int = Field(ge=2, description="number of groups, by depth")


Per: TypeAlias = Literal["model"] | LayerGroups | Annotated[list[str], Field(min_length=1)]

Groups: TypeAlias = dict[str, list[str]]
"""Name of a group -> patterns of its tensors; the first group, without any, is all the others."""


def groups_of(per: Per | Sequence[str], names: Collection[str]) -> Groups:
    """Return the groups of a model's tensors, as patterns for rules.

    Args:
        per: `model`; a number of groups of layers; or patterns as in rules, where tensors that
            match none are a group too, unless there are no such.
        names: of all tensors.

    Raises:
        InputError: there are fewer layers than groups, or a pattern matches no tensor.
    """
    if per == "model":
        return {"model": []}
    if isinstance(per, LayerGroups):
        return _by_depth(per.layer_group, names)
    from stockpot.merging.name_rules import NameRule, check_matches

    check_matches([NameRule(pattern, "riemann") for pattern in per], names)
    return {"others": []} | {pattern: [pattern] for pattern in per}


def _by_depth(number: int, names: Collection[str]) -> Groups:
    """Split layers by depth into groups of as equal numbers as possible.

    Tensors before the layers, such as embeddings, are in the first group, heads in the last.
    """
    from stockpot.disk_merging.planning.depth_scaling import depths
    from stockpot.storage.weights.tensor_names import layer_of, stack_of

    known = depths(names)
    found = sorted({known[name] for name in known})
    if len(found) < number:
        raise InputError(
            f"per: layer_group must be at most the number of numbered layers ({len(found)}), got "
            f"{number}; use patterns of tensor names for other nets"
        )
    place = {depth: rank * number // len(found) for rank, depth in enumerate(found)}
    labels = [f"depth {group + 1} of {number}" for group in range(number)]
    groups: Groups = {label: [] for label in labels}
    for name in names:
        layer = layer_of(name)
        start = "" if layer is None else f"{stack_of(name)}{layer}."
        is_inside = bool(start) and name.startswith(start)
        pattern = f"{glob.escape(start)}*" if is_inside else glob.escape(name)
        own = groups[labels[place[known[name]]]]
        if pattern not in own:
            own.append(pattern)
    return groups | {labels[0]: []}
