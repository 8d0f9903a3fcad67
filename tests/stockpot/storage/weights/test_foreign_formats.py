"""Files of other formats are named, with the way to convert them."""

from __future__ import annotations

import argparse
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stockpot.errors import InputError
from stockpot.storage.weights.foreign_formats import _FORMATS
from stockpot.storage.weights.opening import open_source

Write = Callable[[Path], object]


def _bytes(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("model_weights.ckpt"), io.BytesIO(b""))


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, w=np.ones(2))


def _scripted(path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(path)


def _exported(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:  # as torch.export.save lays it out
        archive.writestr("net/archive_format", "pt2")


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        ("model.gguf", _bytes(b"GGUF\x03"), r"is a GGUF file.*gguf_file='model.gguf'"),
        ("pytorch_model.bin", _bytes(b"GGUF\x03"), r"is a GGUF file"),
        ("tf_model.h5", _bytes(b"\x89HDF\r\n\x1a\n"), "HDF5 file; with transformers<5 and tensor"),
        ("flax_model.msgpack", _bytes(b"\x81"), "Flax msgpack .* from_flax=True"),
        ("model.ckpt.index", _bytes(b"\0"), "TensorFlow checkpoint"),
        ("model.onnx", _bytes(b"\x08\x07"), r"ONNX graph; .*onnx.load\('.*model.onnx'\)"),
        ("rust_model.ot", _bytes(b"PK"), "Rust-BERT archive"),
        ("model.nemo", _tar, "NeMo archive; unpack it with `tar xf .*model.nemo`"),
        ("model.nemo", lambda path: path.write_bytes(gzip.compress(b"")), "NeMo archive"),
        ("model.pt", _tar, "is a tar archive"),
        ("weights.npz", _npz, r"NumPy archive, as older MLX.*numpy.load\('.*weights.npz'\)"),
        ("model.pt", _scripted, r"TorchScript archive; .*torch.jit.load\('.*model.pt'\)"),
        ("exported.pt", _exported, "archive of torch.export"),
        ("__0_0.distcp", _bytes(b""), "distributed checkpoint .* dcp_to_torch"),
        (
            "mp_rank_00_model_states.pt",
            _bytes(b""),
            "DeepSpeed .*: `python zero_to_fp32",
        ),
        ("consolidated.00.pth", _bytes(b""), "Meta checkpoint"),
        (
            "model.safetensors",
            _bytes(b"version https://git-lfs.github.com/spec/v1\n"),
            "git lfs pull",
        ),
        ("model.safetensors", _bytes(b"<!DOCTYPE html>"), "a web page"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_file_of_another_format_is_named_with_its_conversion(
    tmp_path: Path, name: str, write: Write, expected: str
) -> None:
    write(tmp_path / name)

    with pytest.raises(InputError, match=expected):
        open_source(tmp_path / name)


def test_a_folder_with_another_format_alone_says_so(tmp_path: Path) -> None:
    (tmp_path / "model-Q4.gguf").write_bytes(b"GGUF\x03")

    with pytest.raises(InputError, match=r"found none; model-Q4\.gguf is a GGUF file.*save_pretr"):
        open_source(tmp_path)


def test_other_formats_next_to_weights_are_no_obstacle(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    for name in ("tf_model.h5", "model.onnx", "rust_model.ot"):
        (tmp_path / name).write_bytes(b"")

    assert open_source(tmp_path).tensors.keys() == {"w"}


def test_weights_that_end_in_tar_are_read(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}, "epoch": 3}, tmp_path / "best.pth.tar")

    assert open_source(tmp_path / "best.pth.tar").read("w").tolist() == [1.0, 1.0]


def test_a_pickled_module_is_told_from_a_checkpoint_with_other_objects(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    torch.save(net, tmp_path / "net.pt")
    torch.save({"model": net.state_dict(), "args": argparse.Namespace()}, tmp_path / "state.pt")

    whole = r"pickled object of class torch.nn.modules.linear.Linear.*\.state_dict\(\), 'model.saf"
    with pytest.raises(InputError, match=whole):
        open_source(tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"also holds an object of argparse.Namespace"):
        open_source(tmp_path / "state.pt")


def test_each_format_can_be_recognised_and_says_what_to_do() -> None:
    for one in _FORMATS:
        assert one.endings or one.starts or one.members, one.title
        assert one.convert, one.title


def test_a_damaged_archive_raises_no_error_of_python(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    torch.save({"w": torch.ones(2)}, path)
    whole = path.read_bytes()
    start = whole.index(b"PK\x01\x02")  # of the directory at its end

    for place in range(start, start + 64):  # its first entry
        flipped = bytes([whole[place] ^ 0x98])
        path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        with suppress(InputError):
            open_source(path)


def test_a_damaged_pickle_of_an_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    torch.save(nn.Linear(1, 1), tmp_path / "whole.bin")
    with zipfile.ZipFile(tmp_path / "whole.bin") as whole, zipfile.ZipFile(path, "w") as damaged:
        for name in whole.namelist():
            content = whole.read(name)
            if name.endswith("data.pkl"):
                content = content[:60] + b"\xff" + content[61:]
            damaged.writestr(name, content)

    with pytest.raises(InputError, match="not a file of weights alone"):
        open_source(path)
