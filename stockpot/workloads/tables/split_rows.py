"""The rows of tables that each split consists of."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from stockpot.workloads.splits import check_disjoint, split_by_seed

Rows = tuple[str, Sequence[int]]
"""The name of a table (a split's) and indices of its rows."""


def rows_of_splits(
    contents: Mapping[str, Sequence[Hashable]],
    where: Callable[[str, int], str],
    seed: int,
    classes: Sequence[str] | None = None,
) -> dict[str, Rows]:
    """Find the rows of pretrain, train, val and test.

    Args:
        contents: by table, named after its split, the content of each row. Without val and test,
            they are split off train; without pretrain, it is train.
        where: (table's name, row) -> place, for messages.
        seed: fixes the random split.
        classes: the class of each row of train; each class is split separately.

    Raises:
        InputError: val or test has an example of another split; or a class has too few examples.
    """
    rows: dict[str, Rows] = {
        name: (name, range(len(contents[name])))
        for name in ("pretrain", "train")
        if name in contents
    }
    if "val" in contents:
        rows |= {name: (name, range(len(contents[name]))) for name in ("val", "test")}
    else:
        parts = split_by_seed(contents["train"], seed, classes=classes)
        rows |= {name: ("train", indices) for name, indices in parts.items()}
    for first in ("pretrain", "train"):  # which may overlap
        splits = [name for name in (first, "val", "test") if name in rows]
        check_disjoint({name: _places(rows[name], contents, where) for name in splits})
    return {"pretrain": rows["train"], **rows}


def _places(
    rows: Rows, contents: Mapping[str, Sequence[Hashable]], where: Callable[[str, int], str]
) -> dict[Hashable, str]:
    table, indices = rows
    return {contents[table][index]: where(table, index) for index in indices}
