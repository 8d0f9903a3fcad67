"""The roles of models in a merge by weight signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, get_args

from stockpot.disk_merging.merge_files.model_entry import ModelEntry, Role
from stockpot.merging.signature_layers import SIGNATURES

_ROLES = get_args(Role)

Entry = TypeVar("Entry", bound=ModelEntry)


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Sort models by their roles: target, clean, then those that have signatures.

    Signatures without a coefficient get 1 / n, as in the paper. Models without roles are returned
    as they are.
    """
    if not all(entry.role for entry in entries):
        return list(entries)
    ordered = sorted(entries, key=lambda entry: _ROLES.index(str(entry.role)))
    count = sum(_has_signature(entry) for entry in entries)
    return [
        entry.model_copy(update={"coefficient": 1 / count})
        if _has_signature(entry) and "coefficient" not in entry.model_fields_set
        else entry
        for entry in ordered
    ]


def check_roles(
    method: str,
    entries: Sequence[ModelEntry],
    *,
    is_patch: bool,
    has_base: bool,
    refused: str | None,
) -> None:
    """Check that models have roles where, and only where, the merge is by weight signatures.

    Args:
        method: of the merge.
        entries: the models.
        is_patch: whether a patch is written.
        has_base: whether there is a base.
        refused: a field that is set and does not apply to weight signatures; None for none.

    Raises:
        ValueError: with the first rule that is broken.
    """
    if method != SIGNATURES:
        if is_patch:
            raise ValueError(f"output: patch is for method {SIGNATURES}, got {method!r}")
        _check_none(entries, method)
        return
    if refused:
        raise ValueError(f"{refused} is not for method {SIGNATURES}; remove it")
    for entry in entries:
        if entry.role is None:
            raise ValueError(
                f"models: each must have a role for {SIGNATURES}, one of {list(_ROLES)}, got none "
                f"for {entry.key!r}"
            )
        if not _has_signature(entry) and entry.coefficient != 1:
            raise ValueError(
                f"models: coefficient is for corrupted models and patches, got "
                f"{entry.coefficient} of the {entry.role} model {entry.key!r}; remove it"
            )
    _check_numbers(entries, is_patch=is_patch, has_base=has_base)


def _check_none(entries: Sequence[ModelEntry], method: str) -> None:
    """Check that no model has a role."""
    for entry in entries:
        if entry.role:
            raise ValueError(
                f"models: role is for method {SIGNATURES}, got {entry.role!r} of "
                f"{entry.key!r} with {method!r}; remove it"
            )


def _check_numbers(entries: Sequence[ModelEntry], *, is_patch: bool, has_base: bool) -> None:
    """Check how many models there are of each role."""
    count = {role: sum(entry.role == role for entry in entries) for role in _ROLES}
    num_targets = 0 if is_patch else 1
    if count["target"] != num_targets:
        where = "with `output: patch`, which is for any target" if is_patch else "to be changed"
        raise ValueError(f"models: must have {num_targets} target {where}, got {count['target']}")
    if count["patch"]:
        if count["clean"] or count["corrupted"] or has_base or is_patch:
            raise ValueError(
                "models: patches need nothing but a target, since they hold signatures; remove "
                "the clean and corrupted models, the base and `output: patch`"
            )
        return
    if count["clean"] != 1 or not count["corrupted"]:
        raise ValueError(
            "models: must have 1 clean and at least 1 corrupted model, or patches, got "
            f"{count['clean']} and {count['corrupted']}"
        )


def _has_signature(entry: ModelEntry) -> bool:
    return entry.role in ("corrupted", "patch")
