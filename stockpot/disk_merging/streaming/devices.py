"""Where tensors are merged: on the CPU, or on a CUDA device, to and from which they are copied.

The engine is the same for both. It asks for tensors ahead of their use and calls what it got when
it needs them; on the CPU that returns the tensors themselves.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from stockpot.errors import InputError, some_of
from stockpot.merging.runs import MOST_ENTRIES

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")

Arrival = Callable[[], T]
"""Something on its way: waits for it and returns it."""

_MOST_THREADS = 8  # that read and write for a device; more would only take more of its memory
_MOST_RUNS = 8  # merged at once on a device, whose kernels take microseconds to start
_MOST_PINNED = 2**26  # bytes of a tensor: pinned memory is rounded up to a power of 2, and kept
_COPIES = 8  # of a run of every model: stored, in float32, of the next run, and temporaries


class Device:
    """The CPU, where tensors are merged as they are read.

    Attributes:
        num_ahead: the number of runs that are sent before one is merged, and the number that are
            merged before the result of one is fetched; more than 0 if copies take place meanwhile.
    """

    num_ahead = 0

    @property
    def num_threads(self) -> int:
        """The number of tensors, or pieces of big ones, that are merged at once."""
        return os.cpu_count() or 1

    @property
    def label(self) -> str:
        """The device on which results depend, for the pedigree; empty for the CPU."""
        return ""

    @property
    def notes(self) -> list[str]:
        """Notes on a merge on the device, for the terminal and the card."""
        return []

    def send(self, tensors: Sequence[Tensor]) -> Arrival[Sequence[Tensor]]:
        """Send tensors from the CPU to the device; they arrive in the order of the calls."""
        return lambda: tensors

    def fetch(self, tensor: Tensor) -> Arrival[Tensor]:
        """Fetch a tensor to the CPU that was computed on the device; it must not be changed."""
        return lambda: tensor

    def runs_at_once(self, num_tensors: int) -> int:
        """Return the number of runs of this many tensors that are merged as one."""
        del num_tensors
        return 1

    def lacks_memory_for(self, name: str) -> None:
        """Take note that a tensor is merged on the CPU instead."""

    def memory_errors(self) -> AbstractContextManager[None]:
        """Turn errors for want of memory into an InputError."""
        return nullcontext()


CPU = Device()


class CudaDevice(Device):
    """A CUDA device.

    Tensors are read into pinned memory, copied on a stream of its own while others are merged on
    the current stream, and fetched on a third one. PyTorch's allocators rotate the buffers: freed
    pinned memory is given out again once the copies from it have ended, and so is device memory
    for the streams that are recorded with it.
    """

    num_ahead = 1

    def __init__(self, device: torch.device) -> None:
        """Use a device that exists, and as much of its memory as is free now."""
        import torch

        self._device = device
        new_stream: Callable[..., torch.cuda.Stream] = torch.cuda.Stream
        self._sending, self._fetching = new_stream(device), new_stream(device)
        self._num_free, _ = torch.cuda.mem_get_info(device)
        self._too_large: list[str] = []

    @property
    def num_threads(self) -> int:
        """The number of tensors, or pieces of big ones, that are merged at once."""
        return min(super().num_threads, _MOST_THREADS)

    @cached_property
    def label(self) -> str:
        """The device on which results depend, and the library that computes there."""
        import torch

        return f"{torch.cuda.get_device_name(self._device)}, PyTorch {torch.__version__}"

    @property
    def notes(self) -> list[str]:
        """That results depend on it, and the tensors that its memory was too small for."""
        notes = [f"on {self.label}: the last bits may differ from those of a merge on the CPU"]
        if names := sorted({*self._too_large}):
            notes.append(f"merged on the CPU, too large for {self._device}: {some_of(names)}")
        return notes

    def send(self, tensors: Sequence[Tensor]) -> Arrival[Sequence[Tensor]]:
        """Read tensors into pinned memory, and begin to copy them to the device."""
        import torch

        held = [
            _pinned_like(tensor).copy_(tensor) if tensor.nbytes <= _MOST_PINNED else tensor
            for tensor in tensors
        ]
        with torch.cuda.stream(self._sending):
            copies = [each.to(self._device, non_blocking=True) for each in held]
            sent = self._sending.record_event()

        def arrived() -> Sequence[Tensor]:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(sent)
            for each in copies:
                each.record_stream(computing)
            return copies

        return arrived

    def fetch(self, tensor: Tensor) -> Arrival[Tensor]:
        """Begin to copy a tensor into pinned memory, once it is computed."""
        import torch

        if tensor.is_cpu or tensor.nbytes > _MOST_PINNED:
            here = tensor.cpu()
            return lambda: here
        computed = torch.cuda.current_stream(self._device).record_event()
        pinned = _pinned_like(tensor)
        with torch.cuda.stream(self._fetching):
            self._fetching.wait_event(computed)
            pinned.copy_(tensor, non_blocking=True)
            tensor.record_stream(self._fetching)
            fetched = self._fetching.record_event()

        def arrived() -> Tensor:
            fetched.synchronize()
            return pinned

        return arrived

    def runs_at_once(self, num_tensors: int) -> int:
        """Return the number of runs of this many tensors that fit into a thread's share."""
        needed = 4 * MOST_ENTRIES * _COPIES * (num_tensors + 1)
        share = self._num_free // 2 // self.num_threads
        return max(1, min(_MOST_RUNS, share // needed))

    def lacks_memory_for(self, name: str) -> None:
        """Take note that a tensor is merged on the CPU instead."""
        self._too_large.append(name)

    @contextmanager
    def memory_errors(self) -> Iterator[None]:
        """Turn errors for want of memory into an InputError."""
        import torch

        try:
            yield
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"{self._device}: {self._num_free / 1e9:.1f} GB of memory were free, too few for "
                f"{_MOST_THREADS} runs of all models; merge with --device cpu"
            ) from error


def ahead(items: Iterable[T], number: int) -> Iterator[T]:
    """Yield items with a delay of this many items; 0: at once."""
    made: deque[T] = deque()
    for item in items:
        made.append(item)
        del item  # so that its memory is free while the next one is made
        if len(made) > number:
            yield made.popleft()
    while made:
        yield made.popleft()


def device_named(name: str) -> Device:
    """Return the device of a name: cpu, cuda, cuda:N, or auto: CUDA if there is a device.

    Raises:
        InputError: there is no such device; or the name is none of these.
    """
    if name == "cpu":
        return CPU
    kind, colon, number = name.partition(":")
    if name != "auto" and (kind != "cuda" or (colon and not number.isdecimal())):
        raise InputError(f"--device: must be auto, cpu, cuda or cuda:N, got {name!r}")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        if name == "auto":
            return CPU
        why = "" if torch.version.cuda else ", and this PyTorch is built without CUDA"
        raise InputError(
            f"--device: got {name}, but there is no CUDA device{why}; leave it out to merge on the "
            "CPU"
        )
    index = int(number or torch.cuda.current_device())
    if index >= count:
        raise InputError(
            f"--device: must be one of {[f'cuda:{each}' for each in range(count)]}, got {name}"
        )
    return CudaDevice(torch.device("cuda", index))


def _pinned_like(tensor: Tensor) -> Tensor:
    import torch

    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
