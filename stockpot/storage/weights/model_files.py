"""The files that hold a model's weights, found by their names; no weight is read.

This module imports no torch.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stockpot.errors import InputError
from stockpot.storage.digests import digest_in_background
from stockpot.storage.weights.foreign_formats import foreign_files

INDEX = "model.safetensors.index.json"
PICKLE_INDEX = "pytorch_model.bin.index.json"

_LONGEST_NAME = 255  # bytes, of a file on common systems

DIFFUSERS_STEM = "diffusion_pytorch_model"  # where transformers has `model`

# Of each format the shards before the single file; safetensors first.
_NAMES = (
    INDEX,
    "model.safetensors",
    f"{DIFFUSERS_STEM}.safetensors.index.json",
    f"{DIFFUSERS_STEM}.safetensors",
    PICKLE_INDEX,
    "pytorch_model.bin",
    f"{DIFFUSERS_STEM}.bin.index.json",
    f"{DIFFUSERS_STEM}.bin",
)
_SHARD = re.compile(r"-\d+-of-(\d+)\.(safetensors|bin)$")
# Variants, such as fp16, have their name in that of the index: model.safetensors.index.fp16.json.
_INDEX = re.compile(
    rf"^(?:model|pytorch_model|{DIFFUSERS_STEM})\.(safetensors|bin)\.index(?:\.\w+)?\.json$"
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
# Weights of any library, by the end of the name; the checks of a merge name those it cannot read.
_WEIGHTS = re.compile(
    r"\.(safetensors|bin|pt|pth|ckpt|h5|keras|msgpack|ot|gguf|ggml|onnx|onnx_data|onnx\.data|tflite"
    r"|mlmodel|pdparams|nemo|engine)$|^weights(\.\d+)?\.npz$|^consolidated\."
)
_TRAINING = re.compile(
    r"^(optimizer|scheduler|scaler|rng_state|random_states|training_args|pytorch_model_fsdp)\b"
    r".*\.(bin|pt|pth|pkl)$|^(optimizer|rng_state|random_states)_.*\.(bin|pt|pth|pkl)$"
    r"|^(trainer_state|trainer_log|all_results|train_results|eval_results)\.jsonl?$"
    r"|^events\.out\.tfevents\.|\.log$|^zero_to_fp32\.py$|^latest$"
)


def locate_weights(path: Path) -> tuple[Path, ...]:
    """Return the weight files of a model: `path` itself, or those in the folder.

    Raises:
        InputError: there are none, they are ambiguous, or the index of shards is damaged.
    """
    found = _located(path)
    for file in found:
        if file.exists() and not file.is_file():  # reading it might wait for ever
            raise InputError(f"{file}: must be a file of weights, got a folder, pipe or device")
    return found


def _located(path: Path) -> tuple[Path, ...]:
    if not path.is_dir():
        return (path,)
    index = index_of(path)
    if index is not None:
        return tuple(path / shard for shard in sorted(set(read_index(index).values())))
    named = next((path / name for name in _NAMES if (path / name).is_file()), None)
    if named is not None:
        return (named,)
    found = sorted(path.glob("*.safetensors"))
    _check_no_shard(path)
    if len(found) == 1:
        return (found[0],)
    listed = [file.name for file in found] or "none"
    other = foreign_files(path)
    pickles = sorted(file.name for file in path.iterdir() if file.suffix in _PICKLES)
    if pickles and not other and not found:
        other = f"to merge {pickles[0]!r}, name the file"
    raise InputError(
        f"{path}: expected model.safetensors, {INDEX}, {PICKLE_INDEX} or pytorch_model.bin, or one "
        f"other safetensors file; found {listed}" + (f"; {other}" if other else "")
    )


def _check_no_shard(folder: Path) -> None:
    """Refuse shards whose index is missing: they may be a part of the model."""
    shards = sorted(file.name for file in folder.iterdir() if _is_one_of_several(file.name))
    if shards:
        raise InputError(
            f"{folder}: has shards ({shards[0]!r}) without an index; download "
            f"{_index_name(shards[0])} to it"
        )


def _index_name(shard: str) -> str:
    """Return the name of the index of a shard, such as model.fp16-00001-of-00002.safetensors."""
    kind, _, suffix = shard.rpartition(".")
    stem, _, variant = re.sub(r"-\d+-of-\d+$", "", kind).partition(".")
    return ".".join([stem, suffix, "index", *([variant] if variant else []), "json"])


def _is_one_of_several(name: str) -> bool:
    found = _SHARD.search(name)
    return found is not None and int(found[1]) > 1


def index_of(folder: Path) -> Path | None:
    """Return the index of a folder's shards; None if its weights are in one file.

    The index of a variant is taken where there are no weights without one.

    Raises:
        InputError: there are several variants.
    """
    found = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if found is not None:
        return found if is_index(found) else None
    variants = (
        sorted(path for path in folder.iterdir() if is_index(path)) if folder.is_dir() else []
    )
    if len(variants) > 1:
        raise InputError(
            f"{folder}: has shards of several variants, {[path.name for path in variants]}; keep "
            "those of one"
        )
    return variants[0] if variants else None


def is_weights(name: str) -> bool:
    """Return whether a file holds weights of a model, in any library's format, by its name."""
    return bool(_WEIGHTS.search(name)) and not is_training_state(name)


def is_training_state(name: str) -> bool:
    """Return whether a file belongs to the training of a model, by its name: optimizer, logs."""
    return bool(_TRAINING.search(name))


def is_index(path: Path) -> bool:
    """Return whether a file has the name of an index of shards."""
    return bool(_INDEX.search(path.name))


def shard_suffix(index: Path) -> str:
    """Return the suffix of the shards of an index: `.safetensors` or `.bin`."""
    found = _INDEX.search(index.name)
    assert found is not None, "the name is that of an index"
    return f".{found[1]}"


def read_index(index: Path) -> dict[str, str]:
    """Read the shard of each tensor.

    Raises:
        InputError: the index is damaged, or names a file outside its folder or a missing one.
    """
    if index.exists() and not index.is_file():  # reading a pipe would wait for ever
        raise InputError(f"{index}: must be an index of shards, got a folder, pipe or device")
    try:
        text = index.read_text(encoding="utf-8")
        shard_of: dict[str, str] = json.loads(text, object_pairs_hook=_once)["weight_map"]
        shards = sorted(set(shard_of.values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{index}: not an index of shards ({error})") from error
    for shard in shards:
        if not _is_file_name(shard):
            raise InputError(f"{index}: names {shard!r}, which is not a file of its folder")
    missing = [shard for shard in shards if not (index.parent / shard).is_file()]
    if missing:
        raise InputError(
            f"{index.parent / missing[0]}: no such file; {len(missing)} of the {len(shards)} "
            f"shards in {index.name} are missing: {missing[:3]}"
        )
    return shard_of


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping; a name that is there twice would be in two shards."""
    content = dict(pairs)
    if len(content) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} is in it twice")
    return content


def digest_ahead(models: Iterable[Path]) -> None:
    """Start to digest the weights of models; unreadable ones are reported when they are opened."""
    for path in models:
        with suppress(InputError, OSError):
            digest_in_background(locate_weights(path), "blake3")


def _is_file_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and Path(name).name == name
        and name not in {"", ".", ".."}
        and "\0" not in name
        and len(name.encode(errors="replace")) <= _LONGEST_NAME
    )
