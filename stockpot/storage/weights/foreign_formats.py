"""Files that hold no weights which stockpot reads: recognised, named, with the way to convert them.

Formats are recognised by their first bytes where they have a signature, else by their names. This
module imports no torch.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from stockpot.errors import InputError

_NUM_HEAD_BYTES = 512
_TAR_START, _TAR = 257, b"ustar"  # position and bytes of its signature

_BY_TRANSFORMERS_4 = (
    "with transformers<5 and {library} installed: "
    '`python -c "from transformers import AutoModel as M; '
    "M.from_pretrained('FOLDER', from_{flag}=True).save_pretrained('converted')\"`"
)


def _saving(load: str, state: str, kind: str = "torch") -> str:
    """Return the command that saves arrays of a file as safetensors."""
    return (
        f'convert it: `python -c "{load}; from safetensors.{kind} import save_file; '
        f"save_file({state}, 'model.safetensors')\"`"
    )


@dataclass(frozen=True, slots=True)
class _Format:
    """A format of files that are not read.

    Attributes:
        title: what the file is.
        convert: what to do; FILE, NAME and FOLDER stand for the path, its name and its folder.
        endings: of file names.
        starts: signatures at the start of a file.
        members: parts of the names of files in a zip archive, of which one suffices.
    """

    title: str
    convert: str
    endings: tuple[str, ...] = ()
    starts: tuple[bytes, ...] = ()
    members: tuple[str, ...] = ()


_FORMATS = (
    _Format(
        "a Git LFS pointer, not the file itself",
        "download it with `git lfs pull`, or `hf download`",
        starts=(b"version https://git-lfs", b"# xet version"),
    ),
    _Format(
        "a web page, not a file of weights",
        "download it again with `hf download`",
        starts=(b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"),
    ),
    _Format(
        "a GGUF file, of llama.cpp",
        'convert it: `python -c "from transformers import AutoModelForCausalLM as M; '
        "M.from_pretrained('FOLDER', gguf_file='NAME').save_pretrained('converted')\"`",
        (".gguf", ".ggml"),
        (b"GGUF", b"lmgg", b"tjgg", b"fmgg"),
    ),
    _Format(
        "a Keras or TensorFlow HDF5 file",
        _BY_TRANSFORMERS_4.format(library="tensorflow", flag="tf"),
        (".h5", ".hdf5"),
        (b"\x89HDF\r\n\x1a\n",),
    ),
    _Format(
        "a Keras archive",
        "load it with Keras, and save model.get_weights() under the names of the PyTorch model",
        (".keras",),
        members=("model.weights.h5",),
    ),
    _Format(
        "a Flax msgpack file",
        _BY_TRANSFORMERS_4.format(library="flax", flag="flax"),
        (".msgpack",),
    ),
    _Format(
        "a TensorFlow Lite model",
        "use the weights that it was exported from",
        (".tflite",),
    ),
    _Format(
        "a TensorFlow checkpoint or graph",
        _BY_TRANSFORMERS_4.format(library="tensorflow", flag="tf"),
        (".pb", ".ckpt.index", ".data-00000-of-00001"),
    ),
    _Format(
        "an ONNX graph",
        _saving(
            "import onnx; g = onnx.load('FILE').graph",
            "{t.name: onnx.numpy_helper.to_array(t) for t in g.initializer}",
            "numpy",
        ),
        (".onnx",),
    ),
    _Format(
        "an OpenVINO model", "use the weights that it was exported from", ("openvino_model.bin",)
    ),
    _Format(
        "a Core ML model", "use the weights that it was exported from", (".mlmodel", ".mlpackage")
    ),
    _Format(
        "a NeMo archive",
        "unpack it with `tar xf FILE`, and name the model_weights.ckpt that is in it",
        (".nemo",),
    ),
    _Format(
        "a NumPy archive, as older MLX models are",
        _saving("import numpy", "dict(numpy.load('FILE'))", "numpy"),
        (".npz",),
        members=(".npy",),
    ),
    _Format(
        "a NumPy array",
        "save the arrays by name as safetensors",
        (".npy",),
        (b"\x93NUMPY",),
    ),
    _Format(
        "an archive of torch.export",
        _saving("import torch", "dict(torch.export.load('FILE').state_dict)"),
        (".pt2",),
        members=("archive_format", "serialized_exported_program.json"),
    ),
    _Format(
        "a TorchScript archive",
        _saving("import torch", "dict(torch.jit.load('FILE').state_dict())"),
        members=("/constants.pkl",),
    ),
    _Format(
        "a Rust-BERT archive",
        "use the pytorch_model.bin or model.safetensors of the same model",
        (".ot",),
    ),
    _Format(
        "a Paddle file of weights",
        "load it with paddle.load, and save the arrays by name as safetensors",
        (".pdparams",),
    ),
    _Format(
        "a part of a distributed checkpoint of PyTorch",
        "convert it: `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER "
        "weights.pt`",
        (".distcp",),
    ),
    _Format(
        "a part of a DeepSpeed checkpoint",
        "convert it with the script next to it: `python zero_to_fp32.py FOLDER converted`",
        ("_model_states.pt", "_optim_states.pt"),
    ),
    _Format(
        "a part of a Meta checkpoint, whose tensors are split between files",
        "convert it with convert_llama_weights_to_hf.py of transformers",
        ("consolidated.00.pth", "consolidated.01.pth"),
    ),
    _Format("a compressed archive", "unpack it: `tar xf FILE`", (".gz", ".tgz"), (b"\x1f\x8b",)),
)
_ARCHIVE = _Format("a tar archive", "unpack it: `tar xf FILE`")  # torch's own files end in .tar too


def refuse_foreign(file: Path) -> None:
    """Refuse a file in a format that stockpot does not read; a missing one is not noticed.

    Raises:
        InputError: with the format, and how the file is converted.
    """
    found = _format_of(file)
    if found is not None:
        raise InputError(f"{file}: is {found.title}; {_how(found, file)}")


def foreign_files(folder: Path) -> str:
    """Describe the first file of a folder that holds weights in another format; empty for none."""
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        found = _format_of(file)
        if found is not None:
            return f"{file.name} is {found.title}; {_how(found, file)}"
    return ""


def _how(found: _Format, file: Path) -> str:
    convert = found.convert.replace("FILE", str(file)).replace("NAME", file.name)
    return convert.replace("FOLDER", str(file.parent))


def _format_of(file: Path) -> _Format | None:
    try:
        with file.open("rb") as opened:
            head = opened.read(_NUM_HEAD_BYTES)
    except OSError:  # whoever reads it reports the reason
        return None
    name = file.name.lower()
    by_name = next((one for one in _FORMATS if name.endswith(one.endings)), None)
    by_start = next((one for one in _FORMATS if head.startswith(one.starts)), None)
    if head[_TAR_START:].startswith(_TAR) or (by_start and ".gz" in by_start.endings):
        return by_name or by_start or _ARCHIVE  # a format of its own inside
    return by_start or by_name or _by_members(file, head)


def _by_members(file: Path, head: bytes) -> _Format | None:
    if not head.startswith(b"PK"):
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # noqa: BLE001 (a damaged one can raise anything; whoever reads it reports it)
        return None
    return next(
        (one for one in _FORMATS for part in one.members if any(part in name for name in names)),
        None,
    )
