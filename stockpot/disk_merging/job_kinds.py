"""The kinds of merges on disk, by the method and the output of a merge file."""

from __future__ import annotations

from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob
from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.signatures.patch_job import PatchJob
from stockpot.disk_merging.signatures.signature_job import SignatureJob
from stockpot.merging.signature_layers import SIGNATURES


def job_kind(method: str, output: str) -> type[AdapterMergeJob] | type[MergeJob]:
    """Return the class of the job.

    Args:
        method: of a merge file or a pedigree.
        output: what is written: model, adapter or patch.
    """
    if output == "adapter":
        return AdapterMergeJob
    if method == SIGNATURES:
        return PatchJob if output == "patch" else SignatureJob
    return MergeJob
