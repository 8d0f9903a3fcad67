"""Merges of quantised models: weights are merged, never codes, and the output is of floats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from quantized_folders import FP8, codes, integers, scales, write_quantized
from safetensors.torch import load_file
from tiny_transformers import write_llama
from torch import Tensor

from stockpot.disk_merging.inspection import compare_headers, compare_weights
from stockpot.disk_merging.job import MergeJob
from stockpot.storage.weights.opening import open_source

BLOCKS = {"quant_method": "fp8", "weight_block_size": [2, 3]}


def merged(folder: Path, text: str) -> dict[str, Tensor]:
    """Merge as the file says, and return the weights of the output."""
    (folder / "merge.yaml").write_text(text)
    job = MergeJob.read(folder / "merge.yaml", folder / "merged")
    job.check()
    job.run(lambda _bytes: None)
    return load_file(folder / "merged" / "model.safetensors")


def write_model(folder: Path, seed: int, shape: tuple[int, int] = (4, 6)) -> Tensor:
    """Write a model of one quantised weight and one norm, and return that weight."""
    grid = (-(-shape[0] // 2), -(-shape[1] // 3))
    held = {"q.weight": codes(*shape, seed=seed), "q.weight_scale_inv": scales(*grid, seed=seed)}
    held |= {"norm.weight": randn(4, seed=seed), "q.input_scale": scales()}
    write_quantized(folder, held, BLOCKS)
    spread = held["q.weight_scale_inv"].repeat_interleave(2, 0).repeat_interleave(3, 1)
    return held["q.weight"].float() * spread[: shape[0], : shape[1]]


def test_the_weights_of_quantised_models_are_averaged(tmp_path: Path) -> None:
    a, b = write_model(tmp_path / "a", 1), write_model(tmp_path / "b", 2)

    output = merged(tmp_path, "method: linear\nmodels: [a, b]\ndtype: float32")

    torch.testing.assert_close(output["q.weight"], (a + b) / 2, rtol=1e-6, atol=0)
    assert set(output) == {"q.weight", "norm.weight"}


def test_the_output_is_a_model_of_floats_and_says_what_it_came_from(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1)
    tuned = {"q.weight": (base + 1).bfloat16(), "norm.weight": randn(4, seed=1)}
    write_quantized(tmp_path / "tuned", tuned)
    (tmp_path / "base" / "hf_quant_config.json").write_text("{}")

    output = merged(tmp_path, "method: task_arithmetic\nmodels: [tuned]\nbase: base")

    assert output["q.weight"].dtype == torch.bfloat16
    assert torch.equal(output["q.weight"], tuned["q.weight"])
    assert "quantization_config" not in json.loads((tmp_path / "merged/config.json").read_text())
    assert not (tmp_path / "merged" / "hf_quant_config.json").exists()
    card = (tmp_path / "merged" / "README.md").read_text()
    assert (
        "base: weights dequantised from FP8: 1, codes times their scales, one per block of 2 x 3"
        in card
    )
    assert "base: scales of activations left out: 1, such as q.input_scale" in card


@pytest.mark.parametrize("is_elementwise", [True, False])
def test_zeros_of_few_bits_are_not_taken_for_a_mask(tmp_path: Path, is_elementwise: bool) -> None:
    for seed, name in enumerate(("four", "four-too")):
        held = {"q.weight": integers(8, 16, seed=seed), "q.weight_scale": integers(8, 1)}
        write_quantized(tmp_path / name, held, {"quant_method": "mxfp4"})
    small = {"q.weight": (randn(8, 32) / 1000).to(FP8)}  # most are rounded to 0
    write_quantized(tmp_path / "eight", small)
    method = "linear" if is_elementwise else "sce"

    output = merged(tmp_path, f"method: {method}\nmodels: [four, four-too]\nbase: eight")

    assert output["q.weight"].shape == (8, 32)


def test_big_weights_are_dequantised_run_by_run(tmp_path: Path) -> None:
    shape = (2**11 + 1, 2**10 + 3)  # more than one piece, and runs that end within rows
    a, b = write_model(tmp_path / "a", 1, shape), write_model(tmp_path / "b", 2, shape)

    output = merged(tmp_path, "method: linear\nmodels: [a, b]\ndtype: float32")

    torch.testing.assert_close(output["q.weight"], (a + b) / 2, rtol=1e-6, atol=1e-30)


def test_a_quantised_model_is_merged_under_other_names(tmp_path: Path) -> None:
    for seed, prefix in ((1, ""), (2, "model.")):
        held = {f"{prefix}q.weight": integers(8, 16, seed=seed), f"{prefix}norm.weight": randn(4)}
        held[f"{prefix}q.weight_scale"] = torch.full((8, 1), 127).byte()
        write_quantized(tmp_path / f"m{seed}", held, {"quant_method": "mxfp4"})

    output = merged(tmp_path, "method: linear\nmodels: [m1, m2]\ndtype: float32")

    one, two = (open_source(tmp_path / name) for name in ("m1", "m2"))
    expected = (one.read("q.weight") + two.read("model.q.weight")) / 2
    assert torch.equal(output["q.weight"], expected)


def test_an_adapter_on_a_quantised_base_is_merged(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1)
    a, b = randn(2, 6), randn(4, 2, seed=1)
    save_adapter(tmp_path / "tuned", factors("q", a, b))

    output = merged(tmp_path, "method: linear\nmodels: [base, tuned]\nbase: base\ndtype: float32")

    torch.testing.assert_close(output["q.weight"], base + b @ a)


def test_a_merged_model_is_rebuilt_from_its_pedigree(tmp_path: Path) -> None:
    write_model(tmp_path / "a", 1)
    write_model(tmp_path / "b", 2)
    first = merged(tmp_path, "method: linear\nmodels: [a, b]")

    again = MergeJob.rebuilding(tmp_path / "merged", tmp_path / "again", tmp_path)
    again.run(lambda _bytes: None)

    rebuilt = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(rebuilt[name], tensor) for name, tensor in first.items())


def test_a_quantised_model_is_compared_by_its_weights(tmp_path: Path) -> None:
    weight = write_model(tmp_path / "a", 1)
    write_quantized(tmp_path / "b", {"q.weight": 2 * weight, "norm.weight": 2 * randn(4, seed=1)})
    sources = [open_source(tmp_path / name) for name in ("a", "b")]

    findings = compare_headers(sources)
    compared = compare_weights(sources)

    assert not any(finding.is_obstacle for finding in findings)
    assert any("model 0: weights dequantised from FP8: 1" in each.text for each in findings)
    assert compared.norms[1] == pytest.approx(2 * compared.norms[0])
    assert compared.cosines[0][1] == pytest.approx(1)


def _quantised(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Quantise the linear layers to float8 in blocks of 8 x 8."""
    held = {}
    for name, tensor in state.items():
        if "proj" not in name:
            held[name] = tensor
            continue
        rows, columns = (size // 8 for size in tensor.shape)
        blocks = tensor.float().view(rows, 8, columns, 8)
        own = blocks.abs().amax(dim=(1, 3)) / 448
        held[name] = (blocks / own[:, None, :, None]).view_as(tensor).to(FP8)
        held[f"{name}_scale_inv"] = own
    return held


@pytest.mark.full
def test_weights_are_those_that_transformers_dequantises(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    folder = write_llama(tmp_path / "a", tied=False)
    state = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    method = {"quant_method": "fp8", "weight_block_size": [8, 8]}
    for name in ("fp8", "fp8-too"):
        write_quantized(tmp_path / name, _quantised(state), method, **config)

    source = open_source(tmp_path / "fp8")
    merged(tmp_path, "method: linear\nmodels: [fp8, fp8-too]\ndtype: float32")
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "fp8", dtype=torch.float32)
    ours, loading = LlamaForCausalLM.from_pretrained(
        tmp_path / "merged", dtype=torch.float32, output_loading_info=True
    )

    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(source.read(name), tensor), name
        assert torch.equal(ours.state_dict()[name], tensor), name


@pytest.mark.full
def test_experts_are_those_that_transformers_dequantises(tmp_path: Path) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (3, 6, 4, 16), generator=generator).byte()
    exponents = torch.randint(100, 150, (3, 6, 4), generator=generator).byte()
    held = {"e.gate_up_proj_blocks": blocks, "e.gate_up_proj_scales": exponents}
    folder = write_quantized(tmp_path / "m", held, {"quant_method": "mxfp4"})

    read = open_source(folder).read("e.gate_up_proj")

    assert torch.equal(read, convert_moe_packed_tensors(blocks, exponents, dtype=torch.float32))
