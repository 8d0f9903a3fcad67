"""Weights on disk, read tensor by tensor and written in place: files, shards, folders, adapters."""

from stockpot.storage.weights.adapters import Adapter, is_adapter, open_adapter
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.output import ShardedOutput, TensorType
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source, open_files

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
