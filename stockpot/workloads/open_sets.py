"""Sets of examples that are opened once per process, for all jobs that use them."""

from __future__ import annotations

import os
from collections import OrderedDict

from stockpot.workloads.batches import num_examples, subset
from stockpot.workloads.passes import Examples
from stockpot.workloads.protocol import Workload
from stockpot.workloads.samples import sample_indices, whole_and_size

_FRACTION = 1 / 16  # of the machine's memory
_MOST = 32  # sets: small ones too hold their workload

_opened: OrderedDict[tuple[int, str, str], tuple[Workload, Examples]] = OrderedDict()


def open_examples(workload: Workload, set_name: str, device: str) -> Examples:
    """Return a set of a workload on a device; it is read and batched once per process.

    Sets that were not used for the longest time are dropped when all take more than a sixteenth of
    the machine's memory.

    Args:
        workload: the workload; `WorkloadSpec.build` returns the same one for equal specs.
        set_name: a split, or `<split>_shift/<name>`; or a sample of one, `val[256]`.
        device: where the examples are.
    """
    key = (id(workload), set_name, device)  # the workload is stored, so its id stays its own
    if key not in _opened:
        whole, size = whole_and_size(set_name)
        split, _, shift = whole.partition("_shift/")
        dataset = workload.shifts()[shift].dataset() if shift else workload.dataset(split)
        if size is not None:
            dataset = subset(dataset, sample_indices(num_examples(dataset), size))
        _opened[key] = workload, Examples(workload, dataset, device)
    _opened.move_to_end(key)
    most = _FRACTION * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    while len(_opened) > 1 and (_total() > most or len(_opened) > _MOST):
        _opened.popitem(last=False)
    return _opened[key][1]


def _total() -> int:
    return sum(examples.nbytes for _, examples in _opened.values())
