"""Worker processes, one per device slot, which do all torch work of a run."""

from stockpot.workers.devices import choose_devices
from stockpot.workers.pool import WorkerLost, WorkerPool, WorkersStopped

__all__ = ["WorkerLost", "WorkerPool", "WorkersStopped", "choose_devices"]
