"""PyTorch's pickled state dicts, loaded as weights alone."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.weights.safetensors_format import NAMES, READABLE_DTYPES

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")  # examples of PyTorch write .pth.tar

_MAPPINGS = {"collections OrderedDict", "collections defaultdict", "builtins dict"}
_CLASS = re.compile(r"GLOBAL ([\w.]+)")  # in torch's message


def load_pickle(file: Path) -> Mapping[str, Tensor]:
    """Load a state dict with `weights_only`, mapped into memory where the format permits it.

    Args:
        file: a state dict, or a mapping that has one as `state_dict` or `model`.

    Raises:
        InputError: the file is missing or damaged, or holds anything but weights.
    """
    try:
        is_zip = zipfile.is_zipfile(file)  # the legacy format is not; it cannot be mapped
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{file}: not a file of weights alone {_reason(file, error)}") from error
    state = content
    for name in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(_is_weight(*item) for item in state.items()):
        raise InputError(
            f"{file}: expected a state dict, names to dense tensors of {sorted(NAMES.values())}, "
            "got other objects too"
        )
    return {name: tensor.detach() for name, tensor in state.items()}  # parameters track gradients


def _reason(file: Path, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    others = "others are refused, since a pickle can run any code"
    named = _CLASS.search(str(error))
    if named is None:
        return f"({reason}); {others}: save its state dict as safetensors"
    whole = _pickled_class(file)
    if whole is None:
        return (
            f"(it also holds an object of {named[1]}); {others}: in the environment that wrote it, "
            "save its state dict as safetensors"
        )
    return (
        f"(it is a pickled object of class {whole}); {others}: run in the environment that wrote "
        'it: `python -c "import torch; from safetensors.torch import save_file; '
        "save_file(torch.load("
        f"'{file}', weights_only=False).state_dict(), 'model.safetensors')\"`"
    )


def _pickled_class(file: Path) -> str | None:
    """Return the class of the outermost object of a pickle, which is not run; None for a dict."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            opcodes = list(pickletools.genops(archive.read(name)))
    except Exception:  # noqa: BLE001 (a damaged one can raise anything)
        return None  # the legacy format is several pickles, and only the last is the content
    strings: list[str] = []
    for opcode, argument, _ in opcodes:
        if opcode.name in {"EMPTY_DICT", "DICT", "MARK"}:
            return None
        if opcode.name == "GLOBAL":
            return None if argument in _MAPPINGS else str(argument).replace(" ", ".")
        if opcode.name == "STACK_GLOBAL":
            return ".".join(strings[-2:])
        if "UNICODE" in opcode.name:
            strings.append(str(argument))
    return None


def _is_weight(name: object, tensor: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.dtype in READABLE_DTYPES
    )
