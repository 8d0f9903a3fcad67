"""Forward passes that are never repeated, whoever asks for them.

The check before merging, selections, searches, diagnostics and the evaluation score many of the
same weights. Each pass is cached in a file of `.stockpot/passes`, by the digest of the weights, the
set and the code. Files are written once, and appear under their final names when they are complete,
so any number of processes may use them. They hold a digest of their values; a damaged one is
computed again.

Sets are only named here: who opens them decides which ones can be asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from blake3 import blake3
from torch import Tensor, nn

from stockpot.scoring.key_parts import PASSES, pass_key_parts
from stockpot.scoring.shared_passes import SharedSet
from stockpot.scoring.stored_tensors import read_intact, write_tensors
from stockpot.storage.keys import content_key
from stockpot.workloads.passes import Examples
from stockpot.workloads.protocol import Workload
from stockpot.workloads.spec import WorkloadSpec

_WORTH_SECONDS = 0.02  # of a pass; a shorter one costs less than the digest of weights and a file
_MAX_OUTPUTS = 2**22  # bytes; larger outputs are not cached


@dataclass(frozen=True, slots=True)
class Pass:
    """The results of one forward pass over a set, on the CPU.

    Attributes:
        values: the first metric of each example, (N,), float64; higher is better.
        losses: the loss of each example, (N,).
        outputs: the outputs (N, C); None in a pass that was cached without them.
    """

    values: Tensor
    losses: Tensor
    outputs: Tensor | None


def run_pass(
    workload: Workload, examples: Examples, model: nn.Module, shared: SharedSet | None = None
) -> Pass:
    """Run a model on a set.

    Args:
        workload: the built workload.
        examples: the set.
        model: in eval mode, on the device of the examples.
        shared: the same set, for idle workers that help; None: none may.
    """
    metric = next(iter(workload.metrics.values()))
    run = examples.outputs_and_losses
    outputs, losses = shared.outputs_and_losses(examples, model) if shared else run(model)
    values = metric(outputs, examples.targets).double()
    return Pass(values.cpu(), losses.cpu(), outputs.cpu())


class CachedPasses:
    """The passes that a project has run."""

    def __init__(self, root: Path, workload: WorkloadSpec, device: str) -> None:
        """Read and write the passes of one workload on one kind of device."""
        self._folder = root / ".stockpot" / PASSES
        self.workload = workload
        self._device = torch.device(device).type
        self._seconds: dict[str, float] = {}  # of the last pass over each set

    def is_worthwhile(self, set_name: str) -> bool:
        """Return whether a pass over a set takes long enough to be cached, as far as is known."""
        return self._seconds.get(set_name, _WORTH_SECONDS) >= _WORTH_SECONDS

    def took(self, set_name: str, seconds: float) -> None:
        """Note how long a pass over a set takes."""
        self._seconds[set_name] = seconds

    def find(self, set_name: str, weights: Mapping[str, Tensor]) -> Pass | None:
        """Return the pass of weights over a set, maybe without outputs, if it is cached."""
        return _read(self._path(set_name, weights))

    def get_or_run(
        self,
        set_name: str,
        weights: Mapping[str, Tensor],
        run: Callable[[], Pass],
        *,
        with_outputs: bool = False,
    ) -> Pass:
        """Return the pass of weights over a set; it is run if it is not cached.

        Args:
            set_name: as of `predict`.
            weights: of the model that `run` uses.
            run: runs the pass.
            with_outputs: whether outputs are needed, which are cached only if they are small.
        """
        if not self.is_worthwhile(set_name):
            return run()
        path = self._path(set_name, weights)
        cached = _read(path)
        if cached is not None and not (with_outputs and cached.outputs is None):
            return cached
        start = time.perf_counter()
        done = run()
        self.took(set_name, time.perf_counter() - start)
        if self.is_worthwhile(set_name):
            tensors = {"values": done.values, "losses": done.losses}
            if done.outputs is not None and done.outputs.nbytes <= _MAX_OUTPUTS:
                tensors["outputs"] = done.outputs
            write_tensors(path, tensors)
        return done

    def _path(self, set_name: str, weights: Mapping[str, Tensor]) -> Path:
        # The number of threads changes the last bits of matrix products.
        key = content_key(
            **pass_key_parts(self.workload, set_name),
            device=self._device,
            threads=torch.get_num_threads(),
        )
        return self._folder / f"{weights_digest(weights)}.{key}.safetensors"


def _read(path: Path) -> Pass | None:
    cached = read_intact(path)
    return (
        None if cached is None else Pass(cached["values"], cached["losses"], cached.get("outputs"))
    )


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the BLAKE3 of tensors with their names, shapes and dtypes; 32 hex digits."""
    digest = blake3()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest(length=16)
