"""Weights, and results of a forward pass, as they are sent between worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

_ALIGNED = 64  # bytes, as torch aligns tensors
_numbers = count()


@dataclass(frozen=True, slots=True)
class SharedWeights:
    """Weights in memory that other processes can map.

    Attributes:
        number: of these weights in their process; paths are used again.
        path: of the memory; it exists as long as `shared_weights` does.
        num_bytes: the size of the memory.
        layout: name, dtype, shape and first byte of each tensor.
    """

    number: int
    path: str
    num_bytes: int
    layout: tuple[tuple[str, torch.dtype, torch.Size, int], ...]

    def read(self) -> dict[str, Tensor]:
        """Map the weights, which are on the CPU; they stay readable when their path has gone.

        Raises:
            OSError: it has gone, or is of a process of another user.
        """
        return self._views(is_shared=False)

    def write(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights into the memory."""
        for name, view in self._views(is_shared=True).items():
            view.copy_(weights[name])

    def _views(self, *, is_shared: bool) -> dict[str, Tensor]:
        if not os.path.exists(self.path):  # noqa: PTH110 (Path resolves the link to the memory)
            raise FileNotFoundError(self.path)
        memory = torch.from_file(self.path, is_shared, self.num_bytes, dtype=torch.uint8)
        return {
            name: memory[start : start + shape.numel() * dtype.itemsize].view(dtype).reshape(shape)
            for name, dtype, shape, start in self.layout
        }


@contextmanager
def shared_weights(weights: Mapping[str, Tensor]) -> Iterator[SharedWeights]:
    """Put weights into memory that other processes of this user can map.

    The memory has no name in a file system, so nothing is left of it if this process is killed.
    """
    layout, end = [], _ALIGNED
    for name, tensor in weights.items():
        layout.append((name, tensor.dtype, tensor.shape, end))
        end += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
    memory = os.memfd_create("stockpot-weights")
    try:
        os.ftruncate(memory, end)
        path = f"/proc/{os.getpid()}/fd/{memory}"
        shared = SharedWeights(next(_numbers), path, end, tuple(layout))
        shared.write(weights)
        yield shared
    finally:
        os.close(memory)


@dataclass(frozen=True, slots=True)
class SentTensor:
    """A tensor as plain values, which the main process hands on without torch."""

    data: bytes
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> SentTensor:
        """Pack a tensor."""
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        name = str(tensor.dtype).removeprefix("torch.")
        return cls(flat.numpy().tobytes(), name, tuple(tensor.shape))

    def on(self, device: str | torch.device) -> Tensor:
        """Return the tensor on a device."""
        flat = torch.frombuffer(bytearray(self.data), dtype=getattr(torch, self.dtype))
        return flat.reshape(self.shape).to(device)
