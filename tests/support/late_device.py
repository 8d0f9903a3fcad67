"""A stand-in for a CUDA device, computed on the CPU, on which copies take place late.

A copy takes place when something waits for the event after it, and reads its source only then.
Until then, its target holds NaN. So a missing wait, or a buffer that is reused too early, gives
wrong values. Tensors of the device refuse to be mixed with tensors on the CPU, and to be used on a
stream other than their own that was not recorded with them, since their memory might be reused.

PyTorch is asked for the device `meta`, which every build knows.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from stockpot.disk_merging.streaming import stream
from stockpot.disk_merging.streaming.devices import CudaDevice

DEVICE = torch.device("meta")

_THREAD = threading.local()
_LOCK = threading.RLock()


class Stream:
    """A queue of copies; the computing stream has none, since it computes at once."""

    def __init__(self, _device: object = None) -> None:
        self.copies: deque[Callable[[], object]] = deque()
        self.num_begun = 0
        self.num_done = 0

    def enqueue(self, copy: Callable[[], object]) -> None:
        with _LOCK:
            self.copies.append(copy)
            self.num_begun += 1

    def record_event(self) -> SimpleNamespace:
        position = self.num_begun
        return SimpleNamespace(synchronize=lambda: self.run_until(position))

    def run_until(self, position: int) -> None:
        with _LOCK:
            while self.num_done < position:
                self.num_done += 1
                self.copies.popleft()()

    def wait_event(self, event: SimpleNamespace) -> None:
        if self is COMPUTING:
            event.synchronize()
        else:
            self.enqueue(event.synchronize)


COMPUTING = Stream()


def current_stream(_device: object = None) -> Stream:
    return getattr(_THREAD, "stream", COMPUTING)


@contextmanager
def use_stream(own: Stream) -> Iterator[None]:
    _THREAD.stream = own
    try:
        yield
    finally:
        _THREAD.stream = COMPUTING


_DIVISIONS = {
    torch.ops.aten.div.Tensor: torch.ops.aten.mul.Tensor,
    torch.ops.aten.div_.Tensor: torch.ops.aten.mul_.Tensor,
}
"""Operators that divide by a number, each with its replacement."""


class OnDevice(Tensor):
    """A tensor whose entries are held by one on the CPU, out of reach."""

    held: Tensor
    streams: list[Stream]

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        own: OnDevice = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), dtype=held.dtype, device=DEVICE
        )
        own.held, own.streams = held, [current_stream()]
        return own

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})

    def record_stream(self, own: Stream) -> None:  # type: ignore[override]
        self.streams.append(own)

    def tolist(self) -> Any:
        return self.held.tolist()

    def new_tensor(self, data: Any, **_: Any) -> Tensor:
        return OnDevice(self.held.new_tensor(data))


class Intercepted(TorchDispatchMode):
    """Sends also operations without a tensor of the device there, such as `zeros(device=)`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})


class Threads(ThreadPoolExecutor):
    """Threads in which operations are intercepted too."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def intercepted(*args: Any, **kwargs: Any) -> Any:
            with Intercepted():
                return fn(*args, **kwargs)

        return super().submit(intercepted, *args, **kwargs)


def dispatched(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do an operation where its tensors are."""
    own = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
    on_device = [each for each in own if isinstance(each, OnDevice)]
    asks_for_device = str(kwargs.get("device") or "").startswith(DEVICE.type)
    crosses = asks_for_device != bool(on_device) and kwargs.get("device") is not None
    if func is torch.ops.aten._to_copy.default and crosses:
        return _copied_across(args[0], **kwargs)
    if func is torch.ops.aten.copy_.default and 0 < len(on_device) < len(own):
        return _copy_across(*args, **kwargs)
    kwargs.pop("pin_memory", None)  # which needs a real device
    if not on_device and not asks_for_device:
        return func(*args, **kwargs)
    for each in own:
        if isinstance(each, OnDevice):
            assert current_stream() in each.streams, f"{func}: on a stream that was not recorded"
        else:
            assert each.ndim == 0, f"{func}: a tensor of shape {(*each.shape,)} is on the CPU"
    return _done_there(func, args, kwargs | ({"device": "cpu"} if asks_for_device else {}))


def _done_there(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do an operation with what the tensors hold."""
    if func in _DIVISIONS and isinstance(args[1], float | int):
        # As CUDA does: BinaryDivTrueKernel.cu of PyTorch.
        func, args = _DIVISIONS[func], (args[0], 1.0 / args[1])
    held_args, held_kwargs = tree_map_only(OnDevice, lambda each: each.held, (args, kwargs))
    found = func(*held_args, **held_kwargs)
    if torch.Tag.inplace_view in func.tags:
        with no_dispatch():  # the shape alone
            func(*args, **kwargs)
    return args[0] if func._schema.is_mutable else tree_map_only(Tensor, OnDevice, found)


def _copied_across(source: Tensor, *, non_blocking: bool = False, **kwargs: Any) -> Tensor:
    """Copy to the other side, to a new tensor."""
    dtype = kwargs.get("dtype") or source.dtype
    target = torch.empty(source.shape, dtype=dtype)
    there = target if isinstance(source, OnDevice) else OnDevice(target)
    return _copy_across(there, source, non_blocking)


def _copy_across(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    own = current_stream()
    to, of = (each.held if isinstance(each, OnDevice) else each for each in (target, source))
    if non_blocking:
        to.fill_(torch.nan if to.is_floating_point() else 77)
        own.enqueue(lambda: to.copy_(of))
    else:
        to.copy_(of)
    return target


@contextmanager
def late_device(monkeypatch: pytest.MonkeyPatch, num_free: int = 2**40) -> Iterator[CudaDevice]:
    """Yield the device, while PyTorch's functions for CUDA are those of this module.

    Args:
        monkeypatch: replaces them.
        num_free: the bytes of memory that are free on the device.
    """
    for name, value in {
        "Stream": Stream,
        "stream": use_stream,
        "current_stream": current_stream,
        "mem_get_info": lambda _device: (num_free, num_free),
        "get_device_name": lambda _device: "Late Device",
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(stream, "ThreadPoolExecutor", Threads)
    with Intercepted():
        yield CudaDevice(DEVICE)
