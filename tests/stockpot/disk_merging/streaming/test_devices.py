"""Merging on a device gives the bits of the CPU, however late copies take place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from late_device import OnDevice, Stream, late_device
from merge_files import language_model, save_model

from stockpot.disk_merging import lost_changes
from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.merge_files.mergekit_form import load_merge
from stockpot.disk_merging.outputs_job import OutputsJob
from stockpot.disk_merging.pedigree import without_device
from stockpot.disk_merging.streaming import devices, planned_tensors, stream
from stockpot.disk_merging.streaming.devices import CPU, Device, device_named
from stockpot.errors import InputError
from stockpot.merging import runs

INNER = "{merge: {method: slerp, models: [a, b], options: {t: 0.4}}}"
AVERAGE = "{merge: {method: linear, models: [a, p]}}"
MERGES = {
    "entries as stored": "method: linear\nmodels: [a, {path: b, coefficient: 0.3}, c]",
    "entries": "method: task_arithmetic\nmodels: [a, b]\nbase: p\ndtype: bfloat16",
    "measured together": "method: ties\nmodels: [a, b]\nbase: p\noptions: {scope: model}",
    "masks by rows": "method: della\nmodels: [a, b]\nbase: p\noptions: {rescale: l1}",
    "nested": f"method: ties\nmodels: [c, {INNER}]\nbase: {AVERAGE}",
    "in two ways": (
        "method: dare_ties\nmodels: [a, b]\nbase: p\noptions: {rescale: l1}\n"
        "outputs: [{name: one, options: {density: 0.4}}, {name: two, options: {density: 0.6}}]"
    ),
    "wholes in two ways": (
        "method: tsv\nmodels: [a, b]\nbase: p\n"
        "outputs: [{name: one, options: {scale: 0.5}}, {name: two, options: {scale: 1.0}}]"
    ),
}


@pytest.fixture(autouse=True)
def _tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tensors of 280 entries into runs and pieces, and merge them alone."""
    for module in (runs, lost_changes):
        monkeypatch.setattr(module, "MOST_ENTRIES", 64)
    monkeypatch.setattr(lost_changes, "_GROUP", 128)
    monkeypatch.setattr(devices, "_MOST_RUNS", 2)
    monkeypatch.setattr(stream, "_PIECE", 128)
    monkeypatch.setattr(planned_tensors, "_ALONE", 60)
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Save four models with matrices that are merged alone, statistics and integers."""
    for seed, name in enumerate("abcp"):
        own = torch.Generator().manual_seed(seed)
        state = language_model(seed, num_layers=1, vocabulary=70) | {
            "bn.running_mean": torch.randn(4, generator=own),
            "bn.running_var": torch.rand(4, generator=own),
            "bn.num_batches_tracked": torch.tensor(seed),
        }
        half = {n: t.half() if t.is_floating_point() else t for n, t in state.items()}
        save_model(tmp_path / name, half)
    return tmp_path


def _job(folder: Path, text: str, place: str, device: Device) -> MergeJob | OutputsJob:
    (folder / "merge.yaml").write_text(text)
    if "outputs" in text:
        file = load_merge(folder / "merge.yaml")
        return OutputsJob(file, folder, folder / place, device=device)
    return replace(MergeJob.read(folder / "merge.yaml", folder / place), device=device)


def _merged(folder: Path, text: str, place: str, device: Device) -> MergeJob | OutputsJob:
    job = _job(folder, text, place, device)
    job.check()
    assert job.notes is not None  # which are shown before the merge
    job.run(lambda _bytes: None)
    return job


def _weights(place: Path) -> list[bytes]:
    """Return the files of weights without their headers."""
    found = sorted(place.rglob("*.safetensors"))
    contents = [file.read_bytes() for file in found]
    return [content[8 + int.from_bytes(content[:8], "little") :] for content in contents]


@pytest.mark.parametrize("name", MERGES)
def test_a_merge_on_a_device_has_the_bits_of_the_cpu(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = MERGES[name]
    on_cpu = _merged(folder, text, "cpu", CPU)
    with late_device(monkeypatch) as device:
        there = _merged(folder, text, "device", device)
        notes = [*there.notes, *there.notes_on_contents]

    assert _weights(folder / "device") == _weights(folder / "cpu") != []
    cards = [card.read_text() for card in (folder / "device").rglob("README.md")]
    assert cards
    assert all("on Late Device" in card for card in cards)
    assert [n for n in notes if "Late Device" not in n] == [
        *on_cpu.notes,
        *on_cpu.notes_on_contents,
    ]


_NEVER = SimpleNamespace(synchronize=lambda: None)
_BUFFER = torch.empty(2**12)

FAULTS = {
    "merging does not wait for its inputs": (Stream, "wait_event", lambda *_: None),
    "writing does not wait for the result": (Stream, "record_event", lambda _: _NEVER),
    "all inputs go through one buffer": (
        devices,
        "_pinned_like",
        lambda like: _BUFFER.view(like.dtype)[: like.numel()].view(like.shape),
    ),
    "memory is not kept for a stream": (OnDevice, "record_stream", lambda *_: None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_synchronization_shows(
    folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _merged(folder, MERGES["entries"], "cpu", CPU)
    with late_device(monkeypatch) as device:
        monkeypatch.setattr(*FAULTS[fault])
        try:
            _merged(folder, MERGES["entries"], "device", device)
        except (InputError, AssertionError):
            return
    assert _weights(folder / "device") != _weights(folder / "cpu")


def test_the_device_is_part_of_the_pedigree_but_not_of_what_is_merged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu = _job(folder, MERGES["nested"], "cpu", CPU)
    with late_device(monkeypatch) as device:
        there = _job(folder, MERGES["nested"], "device", device)

        assert isinstance(there, MergeJob)
        assert isinstance(on_cpu, MergeJob)
        assert there.pedigree["device"] == f"Late Device, PyTorch {torch.__version__}"
        assert without_device(there.pedigree) == on_cpu.pedigree


def test_outputs_made_on_another_device_are_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _merged(folder, MERGES["in two ways"], "grid", CPU)
    with late_device(monkeypatch) as device:
        again = _job(folder, MERGES["in two ways"], "grid", device)

        assert isinstance(again, OutputsJob)
        assert again.unfinished == []


def test_a_device_that_runs_out_of_memory_leaves_a_whole_tensor_to_the_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _merged(folder, MERGES["wholes in two ways"], "cpu", CPU)
    monkeypatch.setattr(devices, "_MOST_PINNED", 16)  # larger tensors are not pinned
    monkeypatch.setattr(torch.linalg, "svd", _without_memory(torch.linalg.svd))
    with late_device(monkeypatch) as device:
        there = _merged(folder, MERGES["wholes in two ways"], "device", device)
        notes = there.notes_on_contents

    assert _weights(folder / "device") == _weights(folder / "cpu")
    assert any("merged on the CPU, too large for meta: lm_head.weight" in note for note in notes)


def test_a_device_without_memory_for_a_run_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "aminmax", _without_memory(torch.aminmax))
    with late_device(monkeypatch, num_free=10**9) as device:
        said = r"meta: 1.0 GB of memory were free, .*; merge with --device cpu"
        with pytest.raises(InputError, match=said):
            _merged(folder, MERGES["entries"], "device", device)


def _without_memory(function: Any) -> Any:
    def own(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(tensor, OnDevice):
            raise torch.OutOfMemoryError
        return function(tensor, *args, **kwargs)

    return own


def test_less_free_memory_means_shorter_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    for num_free in (2**40, 2**31, 2**20):
        with late_device(monkeypatch, num_free=num_free) as device:
            monkeypatch.setattr("os.cpu_count", lambda: 4)
            lengths.append(device.runs_at_once(3))
    # A run of three models takes 32 MB; each of 4 threads has an eighth of the memory.
    assert lengths == [2, 2, 1]


def test_devices_that_do_not_exist_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_named("auto") is CPU
    assert device_named("cpu") is CPU
    with pytest.raises(InputError, match=r"got cuda, but there is no CUDA device.*leave it out"):
        device_named("cuda")
    for name in ("gpu", "cuda:", "cuda:x", "cuda:-1", "mps", "CUDA"):
        with pytest.raises(InputError, match=f"must be auto, cpu, cuda or cuda:N, got '{name}'"):
            device_named(name)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"must be one of \['cuda:0', 'cuda:1'\], got cuda:2"):
        device_named("cuda:2")
