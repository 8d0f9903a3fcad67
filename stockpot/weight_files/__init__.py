"""Weights on disk, read tensor by tensor and written in place: files, shards, folders, adapters."""

from stockpot.weight_files.adapters import Adapter, is_adapter, open_adapter
from stockpot.weight_files.opening import open_source
from stockpot.weight_files.output import ShardedOutput, TensorType
from stockpot.weight_files.safetensors_format import StoredTensor
from stockpot.weight_files.sources import Source, open_files

__all__ = [
    "Adapter",
    "ShardedOutput",
    "Source",
    "StoredTensor",
    "TensorType",
    "is_adapter",
    "open_adapter",
    "open_files",
    "open_source",
]
