"""LoRA adapters in PEFT's format: a configuration, and the factors of low-rank changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.digests import Algorithm, files_digest, joint_digest
from stockpot.storage.weights.adapter_config import CONFIG, AdapterConfig, read_config
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source, open_files

PREFIX = "base_model.model."  # of PEFT's wrappers, before the module's name in the model
WEIGHTS = "adapter_model.safetensors"
_OLDER_WEIGHTS = "adapter_model.bin"

_FACTOR = re.compile(
    r"(?P<module>.+)\.(?P<kind>lora_(?P<side>[AB])\.weight|lora_embedding_(?P<end>[AB])"
    r"|lora_magnitude_vector(\.weight)?)"
)


@dataclass(frozen=True, slots=True)
class LowRank:
    """The change of one module's weight: scaling * B A, with B as (out, r) and A as (r, in).

    Attributes:
        a: the name of A in the adapter's weights; of convolutions (r, in, kernel...).
        b: the name of B; of convolutions (out, r, 1...).
        scaling: the factor on B A.
        is_embedding: whether the weight is an embedding table, (in, out).
        magnitude: the name of DoRA's row norms (out,), of convolutions (1, out, 1...); None
            without DoRA.
        is_transposed: whether the base, once it is known, stores the weight as (in, out).
    """

    a: str
    b: str
    scaling: float
    is_embedding: bool
    magnitude: str | None
    is_transposed: bool = False


@dataclass(frozen=True)
class Adapter:
    """An open adapter folder; factors are read on demand.

    Attributes:
        path: the folder.
        config: its configuration.
        weights: the factors, and the tensors that are replaced whole.
        changes: by module of the model.
        replaced: names in `weights` of tensors that are replaced whole, by name in the model.
    """

    path: Path
    config: AdapterConfig
    weights: Source
    changes: Mapping[str, LowRank]
    replaced: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The digest of the adapter in new pedigrees."""
        return self.digest_by("blake3")

    def digest_by(self, algorithm: Algorithm) -> str:
        """Return the joint digest of its configuration and weights."""
        config = files_digest([self.path / CONFIG], algorithm)
        return joint_digest([config, self.weights.digest_by(algorithm)], algorithm)

    def stored(self, name: str) -> StoredTensor:
        """Return dtype, shape and position of a factor."""
        return self.weights.tensors[name]


def is_adapter(path: Path) -> bool:
    """Return whether a folder holds an adapter."""
    return (path / CONFIG).is_file()


def open_adapter(folder: Path) -> Adapter:
    """Open an adapter folder: its configuration, and the header of its weights.

    Raises:
        InputError: a file is missing or damaged, the kind of adapter is not supported, or the
            tensors contradict the configuration.
    """
    config = read_config(folder / CONFIG)
    weights = _open_weights(folder)
    factors: dict[str, dict[str, str]] = {}
    replaced: dict[str, str] = {}
    for key in weights.tensors:
        name = key.removeprefix(PREFIX)
        if name == key:
            raise InputError(f"{folder}: tensor {key!r}: must begin with {PREFIX!r}, as PEFT's do")
        if found := _FACTOR.fullmatch(name):
            kind = found["kind"].removesuffix(".weight").removeprefix("lora_")
            factors.setdefault(found["module"], {})[kind] = key
        elif "lora_" in name:
            raise InputError(f"{folder}: tensor {key!r}: not supported; merge it with PEFT")
        else:
            replaced[name.replace(".base_layer.", ".")] = key
    changes = {
        module: _low_rank(folder, config, weights, module, own) for module, own in factors.items()
    }
    return Adapter(folder, config, weights, changes, replaced)


def _open_weights(folder: Path) -> Source:
    for name in (WEIGHTS, _OLDER_WEIGHTS):
        if (folder / name).is_file():
            return open_files(folder / name)
    raise InputError(
        f"{folder}: has {CONFIG} and no {WEIGHTS}; if it is a whole model, remove {CONFIG}"
    )


def _low_rank(
    folder: Path, config: AdapterConfig, weights: Source, module: str, own: Mapping[str, str]
) -> LowRank:
    where = f"{folder}: module {module!r}"
    is_embedding = any(kind.startswith("embedding_") for kind in own)
    a, b = ("embedding_A", "embedding_B") if is_embedding else ("A", "B")
    expected = {a, b, *(["magnitude_vector"] if config.use_dora else [])}
    if own.keys() != expected:
        raise InputError(
            f"{where}: must have {sorted(f'lora_{kind}' for kind in expected)}, "
            f"got {sorted(f'lora_{kind}' for kind in own)}"
        )
    if is_embedding and config.use_dora:
        raise InputError(f"{where}: DoRA of embeddings is not supported; merge it with PEFT")
    _check_factors(where, config.rank_of(module), weights.tensors[own[a]], weights.tensors[own[b]])
    return LowRank(
        own[a], own[b], config.scaling_of(module), is_embedding, own.get("magnitude_vector")
    )


def _check_factors(where: str, rank: int, a: StoredTensor, b: StoredTensor) -> None:
    kernel_of_b = set(b.shape[2:])
    if not (a.dtype.is_floating_point and b.dtype.is_floating_point):
        raise InputError(f"{where}: factors must be floating-point, got {a.dtype} and {b.dtype}")
    if len(a.shape) < 2 or len(a.shape) != len(b.shape) or not kernel_of_b <= {1}:
        raise InputError(f"{where}: A of shape {a.shape} and B of {b.shape} cannot be multiplied")
    if (a.shape[0], b.shape[1]) != (rank, rank):
        raise InputError(
            f"{where}: A has shape {a.shape} and B {b.shape}, but the rank in {CONFIG} is {rank}"
        )
