"""Quantised models in formats that are not dequantised: refused by name, with what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from quantized_folders import codes, integers, scales, write_quantized
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.quantized.formats import format_of

I8, I32, U32 = torch.int8, torch.int32, torch.uint32
HALF = scales(2, 8).half()

# By format: the tensors of one layer as its tool writes them, and its `quant_method`.
LAYERS: dict[str, tuple[dict[str, Tensor], str]] = {
    "bitsandbytes 4 bit": (
        {
            "weight": integers(32, 1),
            "weight.absmax": scales(1),
            "weight.quant_map": scales(16),
            "weight.quant_state.bitsandbytes__nf4": integers(90),
        },
        "bitsandbytes_4bit",
    ),
    "bitsandbytes 8 bit": (
        {"weight": integers(8, 8, dtype=I8), "SCB": scales(8), "weight_format": integers()},
        "bitsandbytes_8bit",
    ),
    "GPTQ": (
        {
            "qweight": integers(2, 8, dtype=I32),
            "qzeros": integers(2, 1, dtype=I32),
            "scales": HALF,
            "g_idx": integers(16, dtype=I32),
        },
        "gptq",
    ),
    "AWQ": (
        {
            "qweight": integers(8, 2, dtype=I32),
            "qzeros": integers(2, 2, dtype=I32),
            "scales": HALF,
        },
        "awq",
    ),
    "compressed-tensors": (
        {
            "weight_packed": integers(8, 2, dtype=I32),
            "weight_scale": scales(8, 1),
            "weight_shape": torch.tensor([8, 16]),
        },
        "compressed-tensors",
    ),
    "HQQ": ({"W_q": integers(8, 4), "scale": HALF, "zero": HALF}, "hqq"),
    "EETQ": ({"weight": integers(8, 8, dtype=I8), "weight_scales": HALF[0]}, "eetq"),
    "AQLM": (
        {
            "codes": integers(8, 2, 1, dtype=I8),
            "codebooks": HALF.view(1, 2, 1, 8),
            "scales": HALF.view(16, 1, 1, 1),
        },
        "aqlm",
    ),
    "QuIP#": (
        {"Qidxs": torch.zeros(8, 2).long(), "SU": scales(16), "SV": scales(8)},
        "quip",
    ),
    "VPTQ": ({"indices": integers(1, 8, 2, dtype=I32), "centroids.weight": HALF}, "vptq"),
    "SpQR": (
        {
            "dense_weights": torch.zeros(8).long(),
            "row_offsets": integers(9, dtype=I32),
            "col_vals": integers(4, dtype=I32),
            "in_perm": integers(8),
        },
        "spqr",
    ),
    "HIGGS": (
        {
            "weight": integers(8, 2, dtype=torch.int16),
            "scales": HALF,
            "tables": HALF,
            "tables2": HALF,
        },
        "higgs",
    ),
    "MLX or Metal": (
        {"weight": integers(8, 2, dtype=U32), "scales": HALF, "qbiases": HALF},
        "metal",
    ),
    "Quanto": (
        {"weight._data": integers(8, 8, dtype=I8), "weight._scale": scales(8, 1)},
        "quanto",
    ),
    "torchao": ({"_weight_qdata": integers(8, 8, dtype=I8), "_weight_scale": HALF}, "torchao"),
    "BitNet": ({"weight": integers(2, 8), "weight_scale": scales(1)}, "bitnet"),
    "FP-Quant": (
        {
            "qweight": integers(8, 4),
            "scales": integers(8, 1),
            "forward_hadamard_matrix": HALF,
        },
        "fp_quant",
    ),
}
SELF_NAMED = sorted(set(LAYERS) - {"BitNet"})  # BitNet's tensors are those of other formats too


def _layer(name: str, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}.{leaf}": tensor for leaf, tensor in LAYERS[name][0].items()}


@pytest.mark.parametrize("name", LAYERS)
def test_a_format_is_refused_by_name(tmp_path: Path, name: str) -> None:
    tensors, method = _layer(name, "model.layers.3.mlp.down_proj"), LAYERS[name][1]
    folder = write_quantized(tmp_path / "m", tensors, {"quant_method": method})

    with pytest.raises(InputError) as caught:
        open_source(folder)

    message = str(caught.value)
    assert message.startswith(f"{folder}: quantised in {name} (tensor 'model.layers.3.mlp.down_pr")
    assert f"config.json says {method!r})" in message
    assert ("dequantise it first: `python -c" in message) != ("no command of" in message)
    assert "integer:" not in message
    assert "missing:" not in message


@pytest.mark.parametrize("name", SELF_NAMED)
def test_tensors_alone_show_the_format(tmp_path: Path, name: str) -> None:
    folder = write_quantized(tmp_path / "m", {"norm.weight": HALF} | _layer(name, "q"))

    with pytest.raises(
        InputError, match=rf"quantised in {re.escape(name)} \(tensor 'q\.[^;]*\), w"
    ):
        open_source(folder)


@pytest.mark.parametrize("name", SELF_NAMED)
def test_a_config_that_says_another_format_is_named(tmp_path: Path, name: str) -> None:
    other = {"quant_method": "fp8"}
    folder = write_quantized(tmp_path / "m", _layer(name, "q"), other)

    expected = rf"{re.escape(name)} \(.*; config.json says 'fp8', which contradicts it\)"
    with pytest.raises(InputError, match=expected):
        open_source(folder)


@pytest.mark.parametrize(
    ("tensor", "quantization", "expected"),
    [
        ({"q.weight": integers(4, 4)}, None, r"a format that is not known \(tensor 'q.weight' is"),
        ({"q.weight": integers(4, 4, dtype=I32)}, {"quant_method": "quark"}, "in Quark"),
        ({"q.weight": integers(4, 4, dtype=I8)}, {"quant_method": "new"}, "in 'new'"),
        ({"q.idx": integers(4, 4, dtype=I32)}, {"quant_method": "vptq"}, "in VPTQ"),
        ({"q.weight": integers(4, 4, dtype=U32)}, None, "a format that is not known"),
        ({"codes": integers(4, dtype=U32)}, None, r"not known \(tensor 'codes' is torch.uint32"),
        ({"blk.0.attn_q.weight": integers(4, 18)}, None, r"quantised in GGUF .*gguf_file="),
        (
            {"q.weight": integers(4, 4)},
            {"load_in_4bit": True},
            r"bitsandbytes 4 bit .*dequantize\(",
        ),
        ({"qweight": integers(4, 4), "qzeros": integers(4), "scales": HALF}, None, "in AWQ"),
        (
            {"q.qweight": integers(4, 4), "q.scales": HALF},
            {"quant_method": "auto-round"},
            r"in AutoRound \(tensor 'q.qweight'; config.json says 'auto-round'\)",
        ),
        (
            {"q.weight": integers(4, 4, dtype=I8), "q.weight_scale": scales(4, 1)},
            None,
            "in 8-bit integers with scales",
        ),
        (
            {"q.weight": codes(4, 4), "q.weight_scale": scales(), "q.weight_zero_point": scales()},
            {"quant_method": "compressed-tensors"},
            "scales a weight",
        ),
        (
            {"mlp1.blocks": integers(2, 4, 1, 16), "mlp1.scales": integers(2, 4, 1)},
            None,
            "MXFP4 in OpenAI's own layout",
        ),
    ],
)
def test_integer_weights_of_any_other_kind_are_refused(
    tmp_path: Path, tensor: dict[str, Tensor], quantization: object, expected: str
) -> None:
    folder = write_quantized(tmp_path / "m", tensor, quantization)

    with pytest.raises(InputError, match=expected):
        open_source(folder)


@pytest.mark.parametrize(
    ("file", "name"), [("quantize_config.json", "GPTQ"), ("quant_config.json", "AWQ")]
)
def test_a_file_of_the_tool_counts_as_its_config(tmp_path: Path, file: str, name: str) -> None:
    folder = write_quantized(tmp_path / "m", {"q.weight": integers(4, 4)})
    (folder / file).write_text('{"bits": 4}')

    with pytest.raises(InputError, match=f"quantised in {name} .*{file} says"):
        open_source(folder)


def test_a_section_of_a_part_of_the_model_counts(tmp_path: Path) -> None:
    text = {"quantization_config": {"quant_method": "hqq"}}
    folder = write_quantized(tmp_path / "m", {"q.weight": integers(4, 4)}, {}, text_config=text)

    with pytest.raises(InputError, match="quantised in HQQ"):
        open_source(folder)


def test_a_single_file_is_refused_like_its_folder(tmp_path: Path) -> None:
    folder = write_quantized(tmp_path / "m", _layer("GPTQ", "q"), {"quant_method": "gptq"})

    with pytest.raises(InputError, match=r"in GPTQ .*; config\.json says 'gptq'"):
        open_source(folder / "model.safetensors")


def test_a_pickle_is_refused_like_safetensors(tmp_path: Path) -> None:
    torch.save(_layer("bitsandbytes 4 bit", "q"), tmp_path / "pytorch_model.bin")

    with pytest.raises(InputError, match="quantised in bitsandbytes 4 bit"):
        open_source(tmp_path)


def test_the_command_loads_the_class_that_the_config_names(tmp_path: Path) -> None:
    folder = tmp_path / "it's a model"
    quantization = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    write_quantized(
        folder, _layer("bitsandbytes 8 bit", "q"), quantization, architectures=["BertModel"]
    )

    with pytest.raises(InputError) as caught:
        open_source(folder)

    command = str(caught.value).partition("dequantise it first: `python -c ")[2]
    assert "from transformers import BertModel as Model" in command
    assert "it'\"'\"'s a model" in command


@pytest.mark.full
def test_every_method_of_transformers_is_known_by_name() -> None:
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    unknown = [name for name in AUTO_QUANTIZER_MAPPING if format_of(name).name == repr(name)]
    assert unknown == []
