"""The check that worker processes see the same examples."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from stockpot.workloads.checks.checked_workload import CheckedWorkload, sampled_digests
from stockpot.workloads.spec import WorkloadSpec


def workers_see_the_same(checked: CheckedWorkload) -> str | None:
    """The workload can be sent to another process, and has the same examples there."""
    try:
        pickle.dumps(checked.spec)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        return f"options: must be numbers, text and booleans, got an unpicklable one ({error})"
    # A new process has another seed of hash(); it takes no slot of a device.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            found = pool.submit(_digests_in_worker, checked.spec).result()
        except Exception as error:  # noqa: BLE001 (any error of the user's code)
            return (
                f"worker process: must be able to build the workload, got "
                f"{type(error).__name__}: {error}; keep its module importable, and set "
                "nothing up outside the class"
            )
    for name, digests in sampled_digests(checked.workload).items():
        if found[name] != digests:
            return (
                f"{name}: must be the same in every process, got other examples in a worker; "
                "sort sets and listings, and do not use the hash() of strings"
            )
    return None


def _digests_in_worker(spec: WorkloadSpec) -> dict[str, list[bytes]]:
    return sampled_digests(spec.build_again())
