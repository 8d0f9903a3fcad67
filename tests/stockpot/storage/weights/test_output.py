"""Files written in place: nothing appears before it is whole, and a killed run goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.weights import output as output_module
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.output import ShardedOutput
from stockpot.storage.weights.safetensors_format import DTYPES

State = dict[str, Tensor]

DiskUsage = namedtuple("DiskUsage", "total used free")


def _state() -> State:
    """Draw tensors of every dtype, as random bits; the first of odd size, one 0-d, one empty."""
    generator = torch.Generator().manual_seed(6)
    state = {}
    for position, dtype in enumerate(DTYPES.values()):
        for shape in [(2 * position + 1,), (), (0, 4), (3, 5)]:
            size = torch.Size(shape).numel() * dtype.itemsize
            largest = 2 if dtype == torch.bool else 256
            raw = torch.randint(largest, (size,), generator=generator, dtype=torch.uint8)
            state[f"{dtype} {shape}"] = raw.view(dtype).view(shape)
    return state


def _bits(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size, bytes]]:
    return {
        name: (t.dtype, t.shape, t.reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, t in state.items()
    }


def _output(place: Path, max_shard_bytes: int = 300) -> ShardedOutput:
    types = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in _state().items()}
    return ShardedOutput(place, types, {"format": "pt"}, max_shard_bytes)


def _write(output: ShardedOutput, key: str = "key", *, fail_at: int | None = None) -> list[str]:
    """Write the state, up to a tensor of shard number `fail_at`; return the written shards."""
    state, written = _state(), []
    with output.opened(key) as shards:
        for shard in shards:
            with output.writing(shard) as writer:
                for name in shard.tensors:
                    writer.write(name, state[name])
                _stop(output.shards.index(shard) == fail_at)
            written.append(shard.file_name)
        _stop(len(output.shards) == fail_at)
    return written


def _stop(is_time: bool) -> None:
    if is_time:
        raise RuntimeError("stopped")


def _files(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("max_shard_bytes", [1, 100, 300, 10**9])
def test_shards_of_any_size_are_bit_equal_for_the_formats_own_library(
    tmp_path: Path, max_shard_bytes: int
) -> None:
    output = _output(tmp_path / "model", max_shard_bytes)
    _write(output)

    loaded: State = {}
    for file in sorted((tmp_path / "model").glob("*.safetensors")):
        loaded |= load_file(file)

    assert _bits(loaded) == _bits(_state())
    assert _bits({n: open_source(tmp_path / "model").read(n) for n in loaded}) == _bits(loaded)


def test_a_shard_holds_as_much_as_fits_and_the_index_tells_of_all(tmp_path: Path) -> None:
    output = _output(tmp_path / "model", 200)
    _write(output)

    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    held: dict[str, str] = {}
    for file in (tmp_path / "model").glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}
            held |= dict.fromkeys(opened.keys(), file.name)
    assert index["weight_map"] == held
    assert index["metadata"] == {
        "total_parameters": sum(t.numel() for t in _state().values()),
        "total_size": sum(t.nbytes for t in _state().values()),
    }
    sizes = [shard.num_bytes for shard in output.shards]
    firsts = [next(iter(shard.tensors)) for shard in output.shards[1:]]
    assert max(sizes) <= 200
    assert all(n + _state()[t].nbytes > 200 for n, t in zip(sizes[:-1], firsts, strict=True))
    assert output.shards[1].file_name == f"model-00002-of-{len(sizes):05d}.safetensors"


def test_what_fits_into_one_shard_has_no_index(tmp_path: Path) -> None:
    _write(_output(tmp_path / "model", 10**9))

    assert list(_files(tmp_path)) == ["model/model.safetensors"]


def test_a_place_that_is_a_file_holds_all_whatever_the_shard_size(tmp_path: Path) -> None:
    _write(_output(tmp_path / "soup.safetensors", 1))

    assert list(_files(tmp_path)) == ["soup.safetensors"]
    assert _bits(load_file(tmp_path / "soup.safetensors")) == _bits(_state())


def test_a_tensor_can_be_written_in_runs_and_in_any_order(tmp_path: Path) -> None:
    whole = torch.arange(10.0).view(2, 5).bfloat16()
    types = {"w": (whole.dtype, tuple(whole.shape)), "v": (torch.float32, (1,))}
    output = ShardedOutput(tmp_path / "soup.safetensors", types, {}, 1)

    with output.opened("key") as [shard], output.writing(shard) as writer:
        writer.write("w", whole.reshape(-1)[7:], 7)
        writer.write("w", whole.reshape(-1)[:7])
        writer.write("v", torch.tensor([3.5]))

    assert _bits(load_file(tmp_path / "soup.safetensors")) == _bits(
        {"w": whole, "v": torch.tensor([3.5])}
    )


def test_a_write_that_takes_a_part_only_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: pwrite(file, data[:9], at))

    _write(_output(tmp_path / "soup.safetensors"))

    assert _bits(load_file(tmp_path / "soup.safetensors")) == _bits(_state())


@pytest.mark.parametrize("name", ["model", "soup.safetensors"])
def test_on_an_error_nothing_has_the_final_name(tmp_path: Path, name: str) -> None:
    output = _output(tmp_path / name)

    with pytest.raises(RuntimeError, match="stopped"):
        _write(output, fail_at=len(output.shards) - 1)

    assert not output.place.exists()
    assert [path.name for path in tmp_path.iterdir()] == [f".{name}.merging"]


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    undisturbed, output = _output(tmp_path / "undisturbed"), _output(tmp_path / "model")
    names = _write(undisturbed)
    with pytest.raises(RuntimeError, match="stopped"):
        _write(output, fail_at=2)

    written = _write(_output(tmp_path / "model"))

    assert written == names[2:]
    assert _files(tmp_path / "model") == _files(tmp_path / "undisturbed")


def test_work_that_was_finished_but_not_named_is_not_done_again(tmp_path: Path) -> None:
    output = _output(tmp_path / "model")
    with pytest.raises(RuntimeError, match="stopped"):
        _write(output, fail_at=len(output.shards))

    assert _write(_output(tmp_path / "model")) == []
    assert output.place.is_dir()


@pytest.mark.parametrize("progress", ["", "{", "[]", "{}", '{"key": 1}'])
def test_unreadable_progress_counts_as_none(tmp_path: Path, progress: str) -> None:
    output = _output(tmp_path / "model")
    with pytest.raises(RuntimeError, match="stopped"):
        _write(output, fail_at=2)
    [file] = output.work.glob("*.json")
    file.write_text(progress)

    assert len(_write(_output(tmp_path / "model"))) == len(output.shards)
    assert not list(output.place.glob(".*"))


@pytest.mark.parametrize(("key", "max_shard_bytes"), [("other", 300), ("key", 290)])
def test_work_of_another_key_or_layout_is_thrown_away(
    tmp_path: Path, key: str, max_shard_bytes: int
) -> None:
    output = _output(tmp_path / "model")
    with pytest.raises(RuntimeError, match="stopped"):
        _write(output, fail_at=2)
    (output.work / "stray").write_text("left over")

    other = _output(tmp_path / "model", max_shard_bytes)
    written = _write(other, key)

    assert written == [shard.file_name for shard in other.shards]
    assert "stray" not in _files(output.place)
    assert _bits({n: open_source(output.place).read(n) for n in _state()}) == _bits(_state())


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "soup.safetensors").write_text("mine")

    for name in ("model", "soup.safetensors"):
        with pytest.raises(InputError, match=f"{tmp_path / name}: exists already; remove it"):
            _output(tmp_path / name).check()

    assert _files(tmp_path) == {"soup.safetensors": hashlib.sha256(b"mine").hexdigest()}


def test_a_parent_that_is_missing_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for parent in ("gone", "file"):
        with pytest.raises(InputError, match=f"{tmp_path / parent}: no such folder"):
            _output(tmp_path / parent / "model").check()


def test_a_disk_that_is_too_small_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = _output(tmp_path / "model")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(1, 1, output.num_bytes - 1))

    with pytest.raises(InputError, match=r"\d+ bytes are needed, \d+ bytes are free"):
        output.check()

    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_has_room_for_what_is_left_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = _output(tmp_path / "model")
    with pytest.raises(RuntimeError, match="stopped"):
        _write(output, fail_at=2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(1, 1, output.num_bytes - 1))

    output.check()

    assert output.work.is_dir()


def test_a_second_writer_to_one_place_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    place = tmp_path / "model"
    first, second = _output(place), _output(place)

    with first.opened("key"):
        with (
            pytest.raises(InputError, match=rf"model: process {os.getpid()} \(stockpot merge, "),
            second.opened("key"),
        ):
            pytest.fail("two write to it")
        for shard in first.shards:
            with first.writing(shard) as writer:
                for name in shard.tensors:
                    writer.write(name, _state()[name])

    assert _bits({n: open_source(place).read(n) for n in _state()}) == _bits(_state())
    assert not list(tmp_path.glob(".*"))


def test_a_place_that_another_has_filled_meanwhile_is_refused(tmp_path: Path) -> None:
    first, second = _output(tmp_path / "model"), _output(tmp_path / "model")
    _write(first)

    with pytest.raises(InputError, match="exists already"):
        _write(second)


def test_metadata_that_is_known_at_the_end_is_in_every_header(tmp_path: Path) -> None:
    output = _output(tmp_path / "model")

    with output.opened("key") as shards:
        for shard in shards:
            with output.writing(shard) as writer:
                for name in shard.tensors:
                    writer.write(name, _state()[name])
        output.write_metadata({"format": "tf"})

    files = sorted((tmp_path / "model").glob("*.safetensors"))
    assert len(files) > 1
    for file in files:
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata() == {"format": "tf"}
    assert _bits({n: open_source(tmp_path / "model").read(n) for n in _state()}) == _bits(_state())


def test_an_error_of_the_disk_while_it_is_written_to_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail(_descriptor: int) -> None:
        failed.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(output_module, "_SECONDS_TO_FLUSH", 0.0)
    monkeypatch.setattr(os, "fdatasync", fail)
    output = _output(tmp_path / "model")

    with (
        pytest.raises(OSError, match="Input/output error"),
        output.opened("key") as [shard, *_],
        output.writing(shard),
    ):
        assert failed.wait(10)

    assert not (tmp_path / "model").exists()
