"""Weights on disk, read tensor by tensor and written in place: files, shards, folders."""

from stockpot.weight_files.output import ShardedOutput, TensorType
from stockpot.weight_files.safetensors_format import StoredTensor
from stockpot.weight_files.sources import Source, open_source

__all__ = ["ShardedOutput", "Source", "StoredTensor", "TensorType", "open_source"]
