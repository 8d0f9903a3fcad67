"""A model's quantisation, as the files next to its weights state it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stockpot.storage.weights.model_config import read_config, read_json_mapping

_SECTIONS = ("quantization_config", "compression_config", "quantization")

SIDE_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}
"""Files of single tools that say the same, and the method that each stands for."""

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_DEPTH = 3  # of the configurations of parts of parts
_OWN_NAMES = ("model.safetensors", "pytorch_model.bin")  # files that a config.json belongs to


@dataclass(frozen=True, slots=True)
class Claim:
    """How a model is quantised, by its own account.

    Attributes:
        files: the files that were read.
        said: the file and the method that it names, for messages; empty if none says anything.
        method: `quant_method`, with the number of bits for bitsandbytes; empty for none.
        section: the settings of the quantisation.
        dtype: the dtype that the model computes in; bfloat16 if it is not stated.
        model_class: the model's class in transformers.
    """

    files: tuple[Path, ...] = ()
    said: str = ""
    method: str = ""
    section: Mapping[str, Any] | None = None
    dtype: torch.dtype = torch.bfloat16
    model_class: str = "AutoModelForCausalLM"

    @property
    def block(self) -> tuple[int, ...] | None:
        """The stated size of the blocks that share a scale; None if it is not stated."""
        section = self.section or {}
        groups = _mapping(section.get("config_groups"))  # of compressed-tensors
        weights = [_mapping(_mapping(group).get("weights")) for group in groups.values()]
        stated = [
            section.get("weight_block_size"),
            *(own.get("block_structure") for own in weights),
        ]
        return next((block for sizes in stated if (block := _as_block(sizes))), None)

    @property
    def has_transforms(self) -> bool:
        """Whether weights are rotated or scaled in a way that other layers undo when they run."""
        return bool((self.section or {}).get("transform_config"))


def read_claim(path: Path) -> Claim:
    """Read what a model's own files say: config.json, and files of single tools.

    Args:
        path: the model's folder, or its file of weights.

    Raises:
        InputError: such a file is not readable.
    """
    if path.is_dir():
        folder = path
    elif path.name in _OWN_NAMES:
        folder = path.parent
    else:
        return Claim()
    config = read_config(folder)
    files = [folder / name for name in ("config.json", *SIDE_FILES) if (folder / name).is_file()]
    method, said, section = "", "", None
    if found := next(_sections(config), None):
        key, section = found
        method = _method(key, section)
        said = f"config.json says {method!r}"
    else:
        for file in files:
            if file.name in SIDE_FILES:
                section, method = read_json_mapping(file), SIDE_FILES[file.name]
                said = f"{file.name} says {method!r}"
    return Claim(tuple(files), said, method, section, _dtype(config), _model_class(config))


def without_quantization(config: Mapping[str, Any], depth: int = _DEPTH) -> dict[str, Any]:
    """Return a config.json without the sections that say how weights are quantised."""
    return {
        key: without_quantization(value, depth - 1) if _is_part(key, value, depth) else value
        for key, value in config.items()
        if not _is_section(key, value)
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _as_block(sizes: object) -> tuple[int, ...] | None:
    if not isinstance(sizes, list) or len(sizes) != 2:
        return None
    return tuple(sizes) if all(isinstance(size, int) and size > 0 for size in sizes) else None


def _sections(
    config: Mapping[str, Any], depth: int = _DEPTH
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the sections on quantisation, of the model and of its parts."""
    for key, part in config.items():
        if _is_section(key, part) and isinstance(part, Mapping) and part:
            yield key, part
    for key, part in config.items():
        if _is_part(key, part, depth):
            yield from _sections(part, depth - 1)


def _is_part(key: str, value: object, depth: int) -> bool:
    """Return whether a section is the configuration of a part of the model."""
    is_other = key.endswith("_config") and not _is_section(key, value)
    return is_other and isinstance(value, Mapping) and depth > 0


def _is_section(key: str, value: object) -> bool:
    # `quantization` is MLX's name; configurations of audio codecs have other settings under it.
    of_mlx = isinstance(value, Mapping) and {"bits", "group_size"} <= value.keys()
    return key in _SECTIONS and (key != "quantization" or of_mlx)


def _method(key: str, section: Mapping[str, Any]) -> str:
    method = str(section.get("quant_method") or "")
    if section.get("load_in_4bit") or section.get("_load_in_4bit"):
        return "bitsandbytes_4bit"
    if section.get("load_in_8bit") or section.get("_load_in_8bit"):
        return "bitsandbytes_8bit"
    if not method and key == "quantization":
        return "mlx"
    if not method and ("config_groups" in section or key == "compression_config"):
        return "compressed-tensors"
    return method or "unnamed"


def _dtype(config: Mapping[str, Any]) -> torch.dtype:
    for part in (config, _mapping(config.get("text_config"))):
        for key in ("dtype", "torch_dtype"):
            name = str(part.get(key)).removeprefix("torch.")
            if name in _DTYPES:
                return _DTYPES[name]
    return torch.bfloat16


def _model_class(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else None
    return first if isinstance(first, str) and first.isidentifier() else Claim().model_class
