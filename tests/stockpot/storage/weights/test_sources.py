"""Models on disk in every form that they come in, and in forms that must be refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from blake3 import blake3
from safetensors.torch import save_file
from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.safetensors_format import DTYPES
from stockpot.storage.weights.sources import Source, open_files

State = dict[str, Tensor]

SHAPES = [(), (0,), (3, 0, 2), (1,), (5,), (3, 7), (2, 1, 3, 2)]
INDEX = "model.safetensors.index.json"


def _state() -> State:
    """Draw tensors of every dtype and shape, as random bits: NaNs among them."""
    generator = torch.Generator().manual_seed(5)
    state = {}
    for dtype in DTYPES.values():
        for shape in SHAPES:
            largest = 2 if dtype == torch.bool else 256
            size = torch.Size(shape).numel() * dtype.itemsize
            raw = torch.randint(largest, (size,), generator=generator, dtype=torch.uint8)
            state[f"{dtype} {shape}"] = raw.view(dtype).view(shape).clone()
    return state


def _bits(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size, bytes]]:
    return {
        name: (t.dtype, t.shape, t.reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, t in state.items()
    }


def _read(source: Source) -> State:
    return {name: source.read(name) for name in source.tensors}


def _save_shards(folder: Path, state: State, num_shards: int = 3) -> Path:
    folder.mkdir()
    shard_of = {name: f"part-{n % num_shards}.safetensors" for n, name in enumerate(state)}
    for shard in set(shard_of.values()):
        save_file({n: t for n, t in state.items() if shard_of[n] == shard}, folder / shard)
    (folder / INDEX).write_text(json.dumps({"weight_map": shard_of}))
    return folder


def _rewrite_index(folder: Path, **shard_of: Any) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] |= shard_of
    (folder / INDEX).write_text(json.dumps(index))


def test_a_file_of_the_formats_own_library_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "any name.safetensors"
    save_file(_state(), path, {"format": "pt"})

    source = open_source(path)

    assert _bits(_read(source)) == _bits(_state())
    assert source.metadata == {"format": "pt"}
    assert source.num_bytes == sum(tensor.nbytes for tensor in _state().values())
    assert source.folder is None


@pytest.mark.parametrize("shift", range(1, 9))
def test_tensors_at_odd_places_are_read_back_bit_for_bit(tmp_path: Path, shift: int) -> None:
    aligned, path = tmp_path / "aligned.safetensors", tmp_path / "odd.safetensors"
    save_file(_state(), aligned)
    content = aligned.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length] + b" " * shift
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])

    source = open_source(path)

    assert _bits(_read(source)) == _bits(_state())
    name = "torch.float32 (3, 7)"
    assert _bits({"run": source.read_run(name, 2, 19)}) == _bits(
        {"run": _state()[name].reshape(-1)[2:19]}
    )


@pytest.mark.parametrize("file_name", ["model.safetensors", "adapter.safetensors"])
def test_a_folder_with_one_safetensors_file_is_read(tmp_path: Path, file_name: str) -> None:
    save_file(_state(), tmp_path / file_name)
    (tmp_path / "config.json").write_text("{}")

    source = open_source(tmp_path)

    assert _bits(_read(source)) == _bits(_state())
    assert source.files == (tmp_path / file_name,)
    assert source.folder == tmp_path


def test_a_folder_of_shards_is_read_by_its_index(tmp_path: Path) -> None:
    folder = _save_shards(tmp_path / "model", _state())

    source = open_source(folder)

    assert _bits(_read(source)) == _bits(_state())
    assert [file.name for file in source.files] == [f"part-{n}.safetensors" for n in range(3)]


def test_a_tensor_that_the_index_puts_elsewhere_is_read_from_there(tmp_path: Path) -> None:
    folder = _save_shards(tmp_path / "model", {"a": torch.ones(2), "b": torch.ones(2)}, 2)
    save_file({"b": torch.zeros(2), "a": torch.zeros(2)}, folder / "part-1.safetensors")

    assert _bits(_read(open_source(folder))) == _bits({"a": torch.ones(2), "b": torch.zeros(2)})


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_a_pickled_state_dict_is_read_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    path = (tmp_path / "model").with_suffix(suffix)
    torch.save(_state(), path)

    source = open_source(path)

    assert _bits(_read(source)) == _bits(_state())
    assert source.tensors["torch.float32 (3, 7)"].shape == (3, 7)


def test_a_pickle_of_torchs_older_form_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in _state().items() if "float8" not in name}
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=False)

    assert _bits(_read(open_source(tmp_path / "model.pt"))) == _bits(state)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_state_dict_in_a_training_checkpoint_is_found(tmp_path: Path, key: str) -> None:
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, key: _state()}, tmp_path / "last.ckpt")

    assert _bits(_read(open_source(tmp_path / "last.ckpt"))) == _bits(_state())


def test_a_folder_with_a_pickle_of_the_usual_name_is_read(tmp_path: Path) -> None:
    torch.save(_state(), tmp_path / "pytorch_model.bin")

    assert _bits(_read(open_source(tmp_path))) == _bits(_state())


def test_pickled_parameters_and_strided_tensors_are_plain_tensors(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).view(2, 3)
    torch.save({"w": nn.Parameter(matrix.T)}, tmp_path / "model.pt")

    source = open_source(tmp_path / "model.pt")

    assert not source.read("w").requires_grad
    assert torch.equal(source.read("w"), matrix.T)
    assert torch.equal(source.read_run("w", 1, 4), torch.tensor([3.0, 1.0, 4.0]))


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    folder = _save_shards(tmp_path / "model", _state(), 2)
    contents = [(folder / f"part-{n}.safetensors").read_bytes() for n in (0, 1)]
    digests = [f"blake3:{blake3(content).hexdigest()}" for content in contents]
    older = [hashlib.sha256(content).hexdigest() for content in contents]

    part, whole = open_source(folder / "part-0.safetensors"), open_source(folder)

    assert part.digest == digests[0]
    assert whole.digest == f"blake3:{blake3(chr(10).join(digests).encode()).hexdigest()}"
    assert part.digest_by("sha256") == older[0]
    assert whole.digest_by("sha256") == hashlib.sha256("\n".join(older).encode()).hexdigest()


WRITES = """
    import sys
    from pathlib import Path
    from stockpot.storage.weights.opening import open_source
    open_source(Path(sys.argv[1])).read("w").zero_()
"""


def test_a_process_that_writes_to_what_it_has_read_ends_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(4)}, path)
    before = path.read_bytes()

    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WRITES), str(path)], check=False, timeout=60
    )

    assert ended.returncode == -signal.SIGSEGV
    assert path.read_bytes() == before


def test_a_place_with_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.safetensors: no such file"):
        open_source(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"none\.pt: no such file"):
        open_source(tmp_path / "none.pt")
    with pytest.raises(InputError, match=f"{tmp_path}: expected model.safetensors, .* found none"):
        open_source(tmp_path)


def test_a_folder_with_several_files_and_no_index_is_refused(tmp_path: Path) -> None:
    for name in ("b", "a"):
        save_file({"w": torch.ones(1)}, tmp_path / f"{name}.safetensors")

    with pytest.raises(InputError, match=r"found \['a.safetensors', 'b.safetensors'\]"):
        open_source(tmp_path)


def test_a_folder_with_the_name_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()

    with pytest.raises(InputError, match=r"model.safetensors: must be a file of weights"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "[" * 90_000,
        '{"weight_map": []}',
        '{"weight_map": {"a": []}}',
        '{"weight_map": {"a": 1, "b": "x"}}',
    ],
    ids=range(9),
)
def test_a_broken_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_text(text)

    with pytest.raises(InputError, match=rf"{INDEX}: not an index of shards"):
        open_source(tmp_path)


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/x", "sub/x", "..", ".", "", "a\0b", 7])
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, shard: Any) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "x.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / INDEX).write_text(json.dumps({"weight_map": {"w": shard}}))

    with pytest.raises(InputError, match="which is not a file of its folder"):
        open_source(folder)


def test_an_index_that_names_a_missing_shard_is_refused(tmp_path: Path) -> None:
    folder = _save_shards(tmp_path / "model", _state())
    (folder / "part-1.safetensors").unlink()

    with pytest.raises(InputError, match=r"part-1\.safetensors: no such file"):
        open_source(folder)


def test_a_tensor_that_the_index_lacks_is_refused(tmp_path: Path) -> None:
    folder = _save_shards(tmp_path / "model", {"a": torch.ones(2), "b": torch.ones(2)}, 2)
    save_file({"b": torch.ones(2), "c": torch.ones(2)}, folder / "part-1.safetensors")

    with pytest.raises(InputError, match=r"part-1\.safetensors: tensors \['c'\] are not in model"):
        open_source(folder)


def _save_pickled_shards(folder: Path, state: State) -> Path:
    folder.mkdir()
    shard_of = {name: f"pytorch_model-{n % 2}.bin" for n, name in enumerate(state)}
    for shard in set(shard_of.values()):
        torch.save({n: t for n, t in state.items() if shard_of[n] == shard}, folder / shard)
    index = {"metadata": {}, "weight_map": shard_of}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def test_pickled_shards_are_read_by_their_index_as_weights_alone(tmp_path: Path) -> None:
    folder = _save_pickled_shards(tmp_path / "model", _state())

    source = open_source(folder)

    assert _bits(_read(source)) == _bits(_state())
    assert [file.name for file in source.files] == ["pytorch_model-0.bin", "pytorch_model-1.bin"]
    digests = [f"blake3:{blake3(file.read_bytes()).hexdigest()}" for file in source.files]
    assert source.digest == f"blake3:{blake3(chr(10).join(digests).encode()).hexdigest()}"


def test_safetensors_come_before_pickled_shards(tmp_path: Path) -> None:
    folder = _save_pickled_shards(tmp_path / "model", {"w": torch.zeros(2)})
    save_file({"w": torch.ones(2)}, folder / "model.safetensors")

    assert open_source(folder).read("w").tolist() == [1.0, 1.0]


def test_faults_of_pickled_shards_are_named(tmp_path: Path) -> None:
    state = {name: torch.ones(2) for name in "abc"}
    lost, swapped, code = (_save_pickled_shards(tmp_path / n, state) for n in ("x", "y", "z"))
    (lost / "pytorch_model-1.bin").unlink()
    torch.save({"a": torch.ones(2)}, swapped / "pytorch_model-0.bin")
    torch.save({"b": torch.ones(2), "c": _Touches(tmp_path / "run")}, code / "pytorch_model-1.bin")

    with pytest.raises(InputError, match=r"model-1\.bin: no such file; 1 of the 2 shards"):
        open_source(lost)
    with pytest.raises(InputError, match=r"model-0\.bin: tensors \['c'\] of the index are not"):
        open_source(swapped)
    with pytest.raises(InputError, match=r"model-1\.bin: not a file of weights alone"):
        open_source(code)
    assert not (tmp_path / "run").exists()


def test_an_index_that_names_a_tensor_its_shard_lacks_is_refused(tmp_path: Path) -> None:
    folder = _save_shards(tmp_path / "model", _state())
    _rewrite_index(folder, lost="part-2.safetensors")

    with pytest.raises(InputError, match=r"part-2\.safetensors: tensors \['lost'\] of the index"):
        open_source(folder)


class _Touches:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _pickle_plainly(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("is_from_torch", [True, False])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(
    tmp_path: Path, is_from_torch: bool
) -> None:
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    save = torch.save if is_from_torch else _pickle_plainly
    save({"w": torch.ones(2), "code": _Touches(trace)}, path)

    with pytest.raises(InputError, match=f"{path}: not a file of weights alone .* any code"):
        open_source(path)

    assert not trace.exists()
    with suppress(RuntimeError):  # torch finds out afterwards that it is not its own
        torch.load(path, weights_only=False)
    assert trace.exists()  # read without care, it does run


@pytest.mark.parametrize("length", [0, 1, 10, 200, -1])
def test_a_pickle_that_is_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(20)}, path)
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(InputError, match=f"{path}: not a file of weights alone"):
        open_source(path)


@pytest.mark.parametrize(
    "content",
    [b"text", b"0.", b"a.", b"N.", b"\x80\x04N.", b"PK\x03\x04", b"cos\nsystem\n.", b"V\xff\n."],
    ids=str,
)
def test_what_is_no_pickle_of_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)

    with pytest.raises(InputError, match=r"model\.pt: not a file of weights alone"):
        open_source(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "content",
    [
        torch.ones(2),
        {"w": 3},
        {0: torch.ones(2)},
        {"w": torch.ones(2, dtype=torch.complex64)},
        {"w": torch.eye(2).to_sparse()},
        {"state_dict": {"w": [torch.ones(2)]}},
    ],
    ids=["tensor", "number", "key", "complex", "sparse", "list"],
)
def test_a_pickle_of_other_things_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "model.pt")

    with pytest.raises(InputError, match="expected a state dict, names to dense tensors of"):
        open_source(tmp_path / "model.pt")


def test_a_pipe_in_place_of_weights_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "other.safetensors")

    for path in (tmp_path, tmp_path / "other.safetensors"):
        with pytest.raises(InputError, match=r"other.safetensors: must be a file of weights"):
            open_files(path)
