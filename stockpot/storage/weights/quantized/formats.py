"""The formats of quantised models: their names, their tensors, and how to dequantise them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import torch

from stockpot.storage.weights.safetensors_format import StoredTensor


class Way(Enum):
    """How transformers turns a quantised model into one of floats."""

    METHOD = "the loaded model's `dequantize()`"
    ON_LOAD = "a quantisation config with `dequantize=True`"
    GGUF = "loading a GGUF file"
    NONE = "not at all"


@dataclass(frozen=True, slots=True)
class Format:
    """A format of quantised models that is not dequantised here.

    Attributes:
        name: in messages.
        methods: values of `quant_method` in config.json.
        leaves: last components of names that all occur next to each other, per variant; the first
            one is shown, those with a star hold integers.
        way: how transformers dequantises it.
        loading: the class of transformers for `Way.ON_LOAD`.
        family: equal for formats whose tensors have the same names; empty for none.
    """

    name: str
    methods: tuple[str, ...]
    leaves: tuple[tuple[str, ...], ...] = ()
    way: Way = Way.NONE
    loading: str = ""
    family: str = ""

    def advice(self, folder: Path, model_class: str) -> str:
        """Return what to do with such a model instead of merging it.

        Args:
            folder: of the model.
            model_class: the model's class in transformers.
        """
        load = f"from transformers import {model_class} as Model"
        origin, place = json.dumps(str(folder)), json.dumps(f"{folder}-dequantized")
        match self.way:
            case Way.METHOD:
                code = f"{load}; Model.from_pretrained({origin}).dequantize()"
            case Way.ON_LOAD:
                code = (
                    f"{load}, {self.loading} as Config; Model.from_pretrained({origin}, "
                    "quantization_config=Config(dequantize=True))"
                )
            case Way.GGUF:
                code = f'{load}; Model.from_pretrained({origin}, gguf_file="FILE.gguf")'
            case Way.NONE:
                return (
                    "no command of transformers dequantises them; merge the model that it was "
                    "quantised from, which its model card names"
                )
        code = f"{code}.save_pretrained({place})"
        return f"dequantise it first: `python -c {shlex.quote(code)}`"


def _leaves(*variants: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(variant.split()) for variant in variants)


# The first one whose tensors are found is named, so those with more tensors come first. A leaf with
# a star holds integers: nets of floats may have tensors of the same names.
FORMATS = (
    Format(
        "bitsandbytes 4 bit",
        ("bitsandbytes_4bit",),
        _leaves("absmax quant_map", "nested_absmax", "quant_state.bitsandbytes__nf4"),
        Way.METHOD,
    ),
    Format("bitsandbytes 8 bit", ("bitsandbytes_8bit",), _leaves("SCB weight*"), Way.METHOD),
    Format("bitsandbytes", ("bitsandbytes",), way=Way.METHOD),
    Format(
        "FP-Quant", ("fp_quant",), _leaves("qweight* scales forward_hadamard_matrix", "dqweight")
    ),
    Format("GPTQ", ("gptq", "gptqmodel"), _leaves("qweight* g_idx", "B* s"), family="qweight"),
    Format("AWQ", ("awq", "llm-awq"), _leaves("qweight* scales"), family="qweight"),
    Format("AutoRound", ("auto-round", "intel/auto-round", "inc"), family="qweight"),
    Format("AQLM", ("aqlm",), _leaves("codes* codebooks scales")),
    Format("QuIP#", ("quip", "quip_sharp"), _leaves("Qidxs* SU SV")),
    Format("VPTQ", ("vptq",), _leaves("indices* centroids.weight")),
    Format("SpQR", ("spqr",), _leaves("dense_weights* row_offsets col_vals")),
    Format("EXL2", ("exl2",), _leaves("q_weight* q_scale")),
    Format("EXL3", ("exl3",), _leaves("trellis* suh svh")),
    Format("SINQ", ("sinq",), _leaves("W_q* meta"), family="W_q"),
    Format("HQQ", ("hqq",), _leaves("W_q*"), family="W_q"),
    Format("HIGGS", ("higgs",), _leaves("tables scales weight*"), Way.METHOD),
    Format(
        "MLX or Metal",
        ("metal", "mlx"),
        _leaves("qbiases scales weight*"),
        Way.ON_LOAD,
        "MetalConfig",
    ),
    Format("MLX", (), _leaves("biases scales weight*")),
    Format("EETQ", ("eetq",), _leaves("weight_scales weight*")),
    Format("Quanto", ("quanto",), _leaves("_data* _scale")),
    Format("torchao", ("torchao",), _leaves("_weight_qdata")),
    Format("Quark", ("quark",), family="weight_scale"),
    Format("four-over-six", ("fouroversix",), _leaves("quantized_weight_values*")),
    Format(
        "Gemma's quantisation",
        ("gemma",),
        _leaves("input_activation_scale weight_scale weight*", "embedding_quantized*"),
        family="weight_scale",
    ),
    Format(
        "compressed-tensors",
        ("compressed-tensors", "sparseml"),
        _leaves("weight_packed* weight_scale", "bitmask* compressed", "weight_zero_point weight*"),
        Way.ON_LOAD,
        "CompressedTensorsConfig",
        "weight_scale",
    ),
    Format("BitNet", ("bitnet",), family="weight_scale"),
    Format(
        "8-bit integers with scales", (), _leaves("weight_scale weight*"), family="weight_scale"
    ),
    Format("MXFP4 in OpenAI's own layout", (), _leaves("blocks* scales*")),
    Format("MXFP4", ("mxfp4",), (), Way.ON_LOAD, "Mxfp4Config"),
    Format("FP8", ("fp8", "mxfp8"), (), Way.ON_LOAD, "FineGrainedFP8Config"),
    Format("FBGEMM FP8", ("fbgemm_fp8",)),
    Format("ModelOpt", ("modelopt", "modelopt_fp4", "modelopt_mixed", "nvfp4")),
    Format("GGUF", ("gguf",), way=Way.GGUF),
)

UNKNOWN = Format("a format that is not known", ())


def format_of(method: str) -> Format:
    """Return the format of a `quant_method`."""
    for each in FORMATS:
        if method.lower().replace("_", "-") in (m.replace("_", "-") for m in each.methods):
            return each
    return Format(repr(method), (method,))


def find_format(tensors: Mapping[str, StoredTensor]) -> tuple[Format, str] | None:
    """Return the format that names and dtypes show, and a tensor that shows it; None for none."""
    adjacent: dict[str, set[str]] = {}
    for name, stored in tensors.items():
        for prefix, leaf in _splits(name):
            is_integer = not stored.dtype.is_floating_point
            adjacent.setdefault(prefix, set()).update([leaf, f"{leaf}*"] if is_integer else [leaf])
    present = {leaf for leaves in adjacent.values() for leaf in leaves}
    variants = [(each, own) for each in FORMATS for own in each.leaves if present.issuperset(own)]
    for each, variant in variants:
        for prefix, leaves in adjacent.items():
            if leaves.issuperset(variant):
                leaf = variant[0].removesuffix("*")
                return each, f"{prefix}.{leaf}" if prefix else leaf
    return None


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Split a name before its last component, and before its last two."""
    outer, _, leaf = name.rpartition(".")
    yield outer, leaf
    if outer:
        prefix, _, inner = outer.rpartition(".")
        yield prefix, f"{inner}.{leaf}"


def integer_weights(tensors: Mapping[str, StoredTensor], *, is_claimed: bool) -> Iterator[str]:
    """Yield the names of matrices of integers that must be codes of some quantisation.

    Args:
        tensors: of the model.
        is_claimed: whether the model says that it is quantised; then any matrix of small integers
            is one, else only those that are called weights: others are buffers.
    """
    for name, stored in tensors.items():
        if stored.dtype.is_floating_point or len(stored.shape) < 2:
            continue
        is_weight = "weight" in name.rpartition(".")[2] and stored.dtype != torch.bool
        if is_weight or (is_claimed and stored.dtype not in (torch.bool, torch.int64)):
            yield name
