"""The check that a worker process sees what this one sees."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from stockpot.workloads.checks.checked_workload import CheckedWorkload, build, sampled_digests
from stockpot.workloads.spec import WorkloadSpec


def workers_see_the_same(checked: CheckedWorkload) -> str | None:
    """The workload can be sent to another process, and has the same examples there."""
    try:
        pickle.dumps(checked.spec)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        return f"options: must be numbers, text and booleans, got what cannot be sent ({error})"
    # A process that starts from nothing, with a hash() of its own; no slot of a device is taken.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            found = pool.submit(_digests_there, checked.spec).result()
        except Exception as error:  # noqa: BLE001 (whatever the user's code raises there)
            return (
                f"worker process: must build the workload from its name, got "
                f"{type(error).__name__}: {error}; keep its module importable by its name, and "
                "set nothing up outside the class"
            )
    for name, digests in sampled_digests(checked.workload).items():
        if found[name] != digests:
            return (
                f"{name}: must be the same in every process, got other examples in a worker; "
                "sort sets and listings, and do not use the hash() of strings"
            )
    return None


def _digests_there(spec: WorkloadSpec) -> dict[str, list[bytes]]:
    return sampled_digests(build(spec))
