"""Cached predictions: the outputs and losses of every model on every set.

A set is `val`, `val_shift/<name>`, `test` or `test_shift/<name>`. This package opens val and its
shifts alone; `stockpot.judging` passes the function that opens test.
Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError
from stockpot.scoring.key_parts import outputs_key_parts
from stockpot.scoring.stored_tensors import read_intact, write_tensors
from stockpot.storage.checkpoints import Checkpoint, load_tensors, verify
from stockpot.storage.keys import content_key
from stockpot.workloads.samples import whole_and_size
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stockpot.scoring.shared_passes import SharedSet
    from stockpot.workloads.passes import Examples

TARGETS = "targets"
MERGED = "merged"
"""In file names, they replace the digest of a model: for targets, and for values of models that
were merged only to be measured."""


def val_sets(workload: WorkloadSpec) -> tuple[str, ...]:
    """Return the names of all sets for choices: val and its shifts."""
    return ("val", *workload.shift_sets("val"))


def predictions_path(root: Path, workload: WorkloadSpec, digest: str, set_name: str) -> Path:
    """Return the path of the cached outputs of the weights with this digest on a set."""
    key = content_key(**outputs_key_parts(workload, set_name))
    return root / ".stockpot" / "predictions" / f"{digest}.{key}.safetensors"


def targets_path(root: Path, workload: WorkloadSpec, set_name: str) -> Path:
    """Return the path of the cached targets of a set."""
    return predictions_path(root, workload, TARGETS, set_name)


def open_val_set(workload: WorkloadSpec, set_name: str, device: str) -> Examples:
    """Open val or one of its shifts, or a sample of one, on a device.

    Raises:
        ValueError: the set is neither; `stockpot.judging` alone opens test.
    """
    from stockpot.workloads.open_sets import open_examples

    if whole_and_size(set_name)[0] not in val_sets(workload):
        raise ValueError(f"open_val_set: must be one of {val_sets(workload)}, got {set_name!r}")
    return open_examples(workload.build(), set_name, device)


def predict(
    root: Path,
    workload: WorkloadSpec,
    checkpoint: Checkpoint,
    device: str,
    sets: Sequence[str],
    *,
    open_set: Callable[[WorkloadSpec, str, str], Examples] = open_val_set,
) -> None:
    """Cache a model's outputs and losses on sets, and the targets of the sets.

    Only missing or damaged files are computed.

    Args:
        root: the project root.
        workload: the workload of the sets.
        checkpoint: the model's weights.
        device: where forward passes run.
        sets: names of sets.
        open_set: (workload, set name, device) -> examples; the default opens only val and
            its shifts.

    Raises:
        InputError: a forward pass is needed, and the weights are missing or damaged.
    """
    from stockpot.scoring.shared_passes import SharedSet

    model = cache(lambda: load_model(root, workload, checkpoint, device))
    for name in sets:
        is_predicted = has_outputs(root, workload, checkpoint.digest, name)
        has_targets = has_outputs(root, workload, TARGETS, name)
        if is_predicted and has_targets:
            continue
        examples = open_set(workload, name, device)
        if not is_predicted:
            shared = SharedSet(workload, name, open_set)
            predicted = _predicted(root, shared, model(), examples, device)
            cache_outputs(root, workload, checkpoint.digest, name, predicted)
        if not has_targets:
            write_tensors(targets_path(root, workload, name), {TARGETS: examples.targets})


def _predicted(
    root: Path, shared: SharedSet, model: nn.Module, examples: Examples, device: str
) -> tuple[Tensor, Tensor]:
    """Return outputs and losses on a set, also from a pass over candidates with these weights."""
    from stockpot.scoring.cached_passes import CachedPasses, run_pass

    done = CachedPasses(root, shared.workload, device).get_or_run(
        shared.name,
        model.state_dict(),
        lambda: run_pass(shared.workload.build(), examples, model, shared),
        with_outputs=True,
    )
    assert done.outputs is not None
    return done.outputs, done.losses


def cache_outputs(
    root: Path, workload: WorkloadSpec, digest: str, set_name: str, predicted: tuple[Tensor, Tensor]
) -> None:
    """Cache outputs (N, C) and losses (N,) on a set under a digest."""
    outputs, losses = predicted
    path = predictions_path(root, workload, digest, set_name)
    write_tensors(path, {"outputs": outputs, "losses": losses})


def has_outputs(root: Path, workload: WorkloadSpec, digest: str, set_name: str) -> bool:
    """Return whether intact outputs on a set are cached for this digest."""
    return read_intact(predictions_path(root, workload, digest, set_name)) is not None


def load_outputs(root: Path, workload: WorkloadSpec, digest: str, set_name: str) -> Tensor:
    """Return the outputs (N, C) on a set of the weights with this digest; float32 or wider.

    Raises:
        InputError: they are not cached, or the file is damaged.
    """
    return _load(predictions_path(root, workload, digest, set_name), set_name)["outputs"]


def load_losses(root: Path, workload: WorkloadSpec, digest: str, set_name: str) -> Tensor:
    """Return the loss (N,) of each example of a set, for the weights with this digest.

    Raises:
        InputError: they are not cached, or the file is damaged.
    """
    return _load(predictions_path(root, workload, digest, set_name), set_name)["losses"]


def load_targets(root: Path, workload: WorkloadSpec, set_name: str) -> Tensor:
    """Return the targets (N,) of a set.

    Raises:
        InputError: they are not cached, or the file is damaged.
    """
    return _load(targets_path(root, workload, set_name), set_name)[TARGETS]


def load_model(
    root: Path, workload: WorkloadSpec, checkpoint: Checkpoint, device: str
) -> nn.Module:
    """Return a model with the weights of a checkpoint, in eval mode, on the device."""
    from stockpot.workloads.passes import empty_model, put_weights

    model = empty_model(workload.build(), device)
    weights = load_tensors(verify(root, checkpoint))
    put_weights(model, {name: tensor.to(device) for name, tensor in weights.items()})
    return model


def _load(path: Path, set_name: str) -> dict[str, Tensor]:
    tensors = read_intact(path)
    if tensors is None:
        raise InputError(
            f"predictions on {set_name}: must be cached and intact, got no such file {path.name}; "
            "run `stockpot evaluate`"
        )
    return tensors
