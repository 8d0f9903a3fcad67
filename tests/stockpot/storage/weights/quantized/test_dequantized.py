"""Quantised models whose rule is public: the weights that they stand for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from quantized_folders import FP8, codes, integers, scales, write_quantized
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.weights.opening import open_source

BLOCKS = {"quant_method": "fp8", "weight_block_size": [2, 3]}
CHANNELS = {"quant_method": "compressed-tensors", "format": "float-quantized"}
GROUPS = {"group_0": {"weights": {"strategy": "block", "block_structure": [2, 3]}}}
W = "layers.0.q_proj.weight"


def test_blocks_of_codes_are_multiplied_by_their_scales(tmp_path: Path) -> None:
    one = torch.tensor([[1.0, 2, 4, 8], [0.5, -1, 1, 448], [16, -2, 32, 1]]).to(FP8)
    by_block = torch.tensor([[0.5, 10], [3, 0.25]])

    source = open_source(
        write_quantized(tmp_path / "m", {W: one, f"{W}_scale_inv": by_block}, BLOCKS)
    )

    expected = torch.tensor([[0.5, 1, 2, 80], [0.25, -0.5, 0.5, 4480], [48, -6, 96, 0.25]])
    assert list(source.tensors) == [W]
    assert source.tensors[W].shape == (3, 4)
    assert torch.equal(source.read(W), expected)
    assert source.output_dtype(W) == torch.bfloat16


@pytest.mark.parametrize(
    ("shape", "grid", "block", "name", "config"),
    [
        ((3, 4), (), (3, 4), "weight_scale", {"quant_method": "modelopt"}),
        ((3, 4), (1,), (3, 4), "weight_scale", CHANNELS),
        ((3, 4), (1, 1), (3, 4), "weight_scale", CHANNELS),
        ((3, 4), (), (3, 4), "weight_scale_inv", {"quant_method": "fp8"}),
        ((3, 4), (3, 1), (1, 4), "weight_scale", CHANNELS),
        ((3, 4), (3,), (1, 4), "weight_scale", {"quant_method": "quark"}),
        ((3, 4), (1,), (3, 4), "scale_weight", None),
        ((3, 4), (1,), (3, 4), "qscale_weight", None),
        ((3, 4), (3, 2), (1, 2), "scale", {"quant_method": "fp8", "weight_block_size": [1, 2]}),
        ((5,), (), (5,), "weight_scale", None),
        ((), (), (), "weight_scale", None),
        ((2, 3, 4), (2, 3), (1, 1, 4), "weight_scale", None),
        ((2, 3, 4), (2,), (1, 3, 4), "weight_scale", None),
        ((2, 3, 4), (2, 1, 4), (1, 3, 1), "weight_scale", {"quant_method": "fbgemm_fp8"}),
        ((2, 5, 7), (2, 3, 3), (1, 2, 3), "weight_scale_inv", BLOCKS),
        ((5, 7), (3, 3), (2, 3), "weight_scale", CHANNELS | {"config_groups": GROUPS}),
        ((2, 5, 7), (1, 3, 3), (2, 2, 3), "weight_scale_inv", BLOCKS),
        ((130, 300), (2, 3), (128, 128), "weight_scale_inv", None),
        ((258, 4), (3, 1), (128, 4), "weight_scale_inv", None),  # not three blocks of 86
        ((4, 64), (4, 2), (1, 32), "weight_scale_inv", {"quant_method": "mxfp8"}),
    ],
)
def test_each_scale_is_that_of_its_block(
    tmp_path: Path,
    shape: tuple[int, ...],
    grid: tuple[int, ...],
    block: tuple[int, ...],
    name: str,
    config: object,
) -> None:
    own = scales(*grid)
    held = {W: codes(*shape), f"layers.0.q_proj.{name}": own}

    source = open_source(write_quantized(tmp_path / "m", held, config))

    spread = own.view((*grid, *[1] * (len(shape) - len(grid))))
    for dimension, (size, length) in enumerate(zip(shape, block, strict=True)):
        spread = spread.repeat_interleave(length, dimension).narrow(dimension, 0, size)
    expected = held[W].float() * spread
    assert torch.equal(source.read(W), expected)
    for first, last in ((0, 1), (0, 0), (expected.numel() // 3, expected.numel())):
        assert torch.equal(source.read_run(W, first, last), expected.view(-1)[first:last])


def test_exponents_as_bytes_are_powers_of_two(tmp_path: Path) -> None:
    held = {W: torch.ones(4, 64).to(FP8), f"{W}_scale_inv": torch.tensor([[127, 130]] * 4).byte()}

    source = open_source(write_quantized(tmp_path / "m", held, {"quant_method": "mxfp8"}))

    assert torch.equal(source.read(W), torch.tensor([1.0, 8.0]).repeat_interleave(32).expand(4, 64))


@pytest.mark.parametrize(
    ("config", "more", "factor"),
    [
        ({"quant_method": "modelopt"}, {"weight_scale_2": torch.tensor(0.5)}, 0.5),
        (CHANNELS, {"weight_global_scale": torch.tensor([2.0])}, 0.5),
    ],
)
def test_four_bit_codes_have_two_levels_of_scales(
    tmp_path: Path, config: object, more: dict[str, Tensor], factor: float
) -> None:
    leaf = "weight_packed" if "weight_global_scale" in more else "weight"
    packed = torch.tensor([[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE]] * 2).byte()
    held = {f"q.{leaf}": packed, "q.weight_scale": torch.tensor([[2.0], [4.0]]).to(FP8)}
    held |= {f"q.{name}": tensor for name, tensor in more.items()}

    source = open_source(write_quantized(tmp_path / "m", held, config))

    magnitudes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    row = torch.cat([magnitudes, -magnitudes]) * 2 * factor
    assert list(source.tensors) == ["q.weight"]
    assert torch.equal(source.read("q.weight"), torch.stack([row, 2 * row]))
    assert torch.equal(source.read_run("q.weight", 15, 18), torch.tensor([row[15], 0, 2 * row[1]]))


def test_experts_of_gpt_oss_are_unpacked_and_transposed(tmp_path: Path) -> None:
    blocks, exponents = integers(2, 3, 2, 16) * 2 + 1, integers(2, 3, 2, seed=1)
    held = {"e.down_proj_blocks": blocks, "e.down_proj_scales": exponents}

    source = open_source(write_quantized(tmp_path / "m", held, {"quant_method": "mxfp4"}))

    values = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]
    expected = torch.empty(2, 64, 3)
    for expert, output, block, byte in torch.cartesian_prod(
        *map(torch.arange, blocks.shape)
    ).tolist():
        both = int(blocks[expert, output, block, byte])
        scale = 2.0 ** (int(exponents[expert, output, block]) - 127)
        at = 32 * block + 2 * byte
        expected[expert, at, output] = values[both & 15] * scale
        expected[expert, at + 1, output] = values[both >> 4] * scale
    assert torch.equal(source.read("e.down_proj"), expected)
    for first, last in ((0, 1), (100, 200), (190, 195), (383, 384)):
        assert torch.equal(
            source.read_run("e.down_proj", first, last), expected.view(-1)[first:last]
        )


def test_scales_of_activations_are_left_out_with_a_note(tmp_path: Path) -> None:
    held = {W: codes(3, 4), "layers.0.q_proj.weight_scale": scales(1), "norm.weight": randn(4)}
    held |= {"layers.0.q_proj.input_scale": scales(1), "layers.0.k_proj.k_scale": scales(1)}
    held |= {"logit_scale": scales()}

    source = open_source(write_quantized(tmp_path / "m", held, CHANNELS, torch_dtype="float16"))

    assert set(source.tensors) == {W, "norm.weight", "logit_scale"}
    assert source.output_dtype(W) == torch.float16
    assert [*source.notes] == [
        "weights dequantised from FP8: 1, codes times their scales, one per tensor",
        "scales of activations left out: 2, such as layers.0.k_proj.k_scale",
    ]


@pytest.mark.parametrize(
    ("held", "config", "note"),
    [
        ({W: codes(3, 4)}, None, "weights in 8-bit floats without scales, taken as they are: 1"),
        (
            {W: codes(3, 4), f"{W}_scale_inv": scales(1, 2)},
            {"quant_method": "fp8", "weight_block_size": [128, 3]},
            "weights dequantised from FP8: 1, codes times their scales, one per block of 3 x 3",
        ),
        (
            {W: codes(3, 4), f"{W}_scale_inv": scales(1, 2)},
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            "config.json states blocks of 128 x 128, which do not fit",
        ),
        (
            {W: randn(3, 4)},
            {"quant_method": "gptq", "bits": 4},
            "config.json says 'gptq', but no weight is quantised: taken as they are",
        ),
        (
            {W: codes(3, 4), f"{W}_scale": scales(3, 1)},
            {},
            "config.json does not say that the weights are quantised",
        ),
    ],
)
def test_what_config_and_tensors_disagree_on_is_noted(
    tmp_path: Path, held: dict[str, Tensor], config: object, note: str
) -> None:
    source = open_source(write_quantized(tmp_path / "m", held, config))

    assert note in source.notes
    assert source.read(W).shape == (3, 4)


def test_buffers_and_parameters_of_a_plain_model_are_kept(tmp_path: Path) -> None:
    held = {
        "weight_scale": randn(3),  # a parameter of a net of the user's
        "input_scale": randn(1),
        "q.scale": randn(3),
        "embeddings.position_ids": torch.arange(6).view(1, 6),
        "attn.bias": torch.ones(1, 1, 3, 3, dtype=torch.uint8),
        "codebook.indices": torch.arange(3),
        "codebook.centroids": randn(3, 2),
        "attn.W_q": randn(2, 2),
        "router.scales": randn(2),
        "router.weight": randn(2, 2),
    }

    source = open_source(write_quantized(tmp_path / "m", held))

    assert set(source.tensors) == set(held)
    assert not source.notes


def test_an_adapter_is_applied_to_the_floats_of_a_quantised_base(tmp_path: Path) -> None:
    held = {"q.weight": codes(3, 4), "q.weight_scale": scales(3, 1)}
    base = open_source(write_quantized(tmp_path / "base", held, CHANNELS))
    a, b = randn(2, 4), randn(3, 2, seed=1)
    adapter = save_adapter(tmp_path / "adapter", factors("q", a, b))

    source = open_source(adapter, base)

    torch.testing.assert_close(
        source.read("q.weight"), held["q.weight"].float() * held["q.weight_scale"] + 2 * b @ a
    )
    assert source.output_dtype("q.weight") == torch.bfloat16
    assert source.notes == base.notes


def test_the_base_that_an_adapter_names_is_dequantised_too(tmp_path: Path) -> None:
    held = {"q.weight": codes(3, 4), "q.weight_scale": scales(3, 1)}
    base = write_quantized(tmp_path / "base", held, CHANNELS)
    a, b = torch.zeros(2, 4), torch.zeros(3, 2)
    adapter = save_adapter(
        tmp_path / "adapter", factors("q", a, b), base_model_name_or_path=str(base)
    )

    read = open_source(adapter).read("q.weight")

    assert torch.equal(read, held["q.weight"].float() * held["q.weight_scale"])


def test_the_config_that_states_the_blocks_is_watched_for_changes(tmp_path: Path) -> None:
    held = {W: codes(3, 4), f"{W}_scale_inv": scales(2, 2)}
    folder = write_quantized(tmp_path / "m", held, BLOCKS)
    factors_of_q = factors("layers.0.q_proj", torch.zeros(2, 4), torch.zeros(3, 2))
    adapter = save_adapter(tmp_path / "adapter", factors_of_q)
    source = open_source(folder)
    adapted = open_source(adapter, source)
    before = source.states, adapted.states

    (folder / "config.json").write_text(json.dumps({"quantization_config": {}}))

    assert source.states != before[0]
    assert adapted.states != before[1]


@pytest.mark.parametrize(
    ("held", "config", "expected"),
    [
        ({W: codes(3, 4)}, BLOCKS, f"{W!r} is torch.float8_e4m3fn and has no scale, but config"),
        (
            {W: codes(3, 4), f"{W}_scale_inv": scales(2, 2), "k.weight": codes(3, 4)},
            BLOCKS,
            "'k.weight' is torch.float8_e4m3fn and has no scale, others have one",
        ),
        (
            {W: codes(3, 4), f"{W}_scale_inv": scales(5, 2)},
            BLOCKS,
            r"'.*_scale_inv' of torch.float32 and shape \(5, 2\) does not fit .* shape \(3, 4\)",
        ),
        (
            {W: codes(3, 4), f"{W}_scale_inv": scales(), f"{W}_scale": scales()},
            BLOCKS,
            "has two kinds of scales",
        ),
        ({W: randn(3, 4), f"{W}_scale_inv": scales(2, 2)}, None, "scales a weight, and no"),
        (
            {W: codes(3, 4), f"{W}_scale": scales(), "layers.0.q_proj.pre_quant_scale": scales(4)},
            {"quant_method": "modelopt"},
            "'layers.0.q_proj.pre_quant_scale' scales a weight, and no",
        ),
        (
            {W: codes(3, 4), f"{W}_scale": scales()},
            {"quant_method": "awq"},
            r"config.json says 'awq', its tensors are FP8 \('.*weight_scale' scales",
        ),
        (
            {W: codes(3, 4), f"{W}_scale": scales()},
            CHANNELS | {"transform_config": {"config_groups": {"R1": {}}}},
            "config.json has a transform_config: its weights are rotated",
        ),
    ],
)
def test_a_model_that_contradicts_itself_is_refused(
    tmp_path: Path, held: dict[str, Tensor], config: object, expected: str
) -> None:
    folder = write_quantized(tmp_path / "m", held, config)

    with pytest.raises(InputError, match=f"^{re.escape(str(folder))}: .*{expected}"):
        open_source(folder)
