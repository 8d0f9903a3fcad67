"""Adapters as PEFT itself trains, saves, merges and loads them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob
from stockpot.disk_merging.adapters.lora_extraction import LoraExtraction, total_error
from stockpot.disk_merging.job import MergeJob
from stockpot.storage.weights.opening import open_source

pytestmark = [
    # PEFT asks transformers for an attribute by its older name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

Save = Callable[..., Path]

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ALL},
    "rslora": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 3,
        "target_modules": ["q_proj", "up_proj"],
        "rank_pattern": {"layers.1.self_attn.q_proj": 7},
        "alpha_pattern": {"up_proj": 5},
        "use_rslora": True,
    },
    "bias": {"r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], "bias": "all"},
    "saved head": {
        "r": 2,
        "lora_alpha": 2,
        "target_modules": ["v_proj"],
        "modules_to_save": ["lm_head"],
    },
    "embedding": {"r": 3, "lora_alpha": 5, "target_modules": ["embed_tokens", "q_proj"]},
    "dora": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "use_dora": True},
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save two tiny bases: one of linear layers, one whose weights are (in, out)."""
    folder = tmp_path_factory.mktemp("peft")
    tiny = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2}
    llama = transformers.LlamaConfig(
        **tiny,
        intermediate_size=24,
        num_hidden_layers=2,
        num_key_value_heads=1,
        attention_bias=True,
    )
    gpt2 = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(llama).save_pretrained(folder / "llama")
        transformers.GPT2LMHeadModel(gpt2).save_pretrained(folder / "gpt2")
    return folder


def load_base(folder: Path, base: str) -> nn.Module:
    model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(folder / base)
    return model


@pytest.fixture
def save(folder: Path, tmp_path: Path) -> Save:
    """Save an adapter whose trained tensors are all moved away from their start."""

    def run(name: str, base: str = "llama", seed: int = 1, **config: Any) -> Path:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            lora = peft.LoraConfig(task_type="CAUSAL_LM", **config)
            model = peft.get_peft_model(load_base(folder, base), lora)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data += 0.1 * torch.randn_like(parameter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that embeddings are saved too
            model.save_pretrained(tmp_path / name)
        return tmp_path / name

    return run


def merged_by_peft(folder: Path, base: str, adapter: Path) -> dict[str, Tensor]:
    """Return the weights that PEFT makes, by the names that transformers saves them under."""
    model = peft.PeftModel.from_pretrained(load_base(folder, base), adapter).merge_and_unload()
    model.save_pretrained(adapter / "whole")
    return load_file(adapter / "whole" / "model.safetensors")


def merged(folder: Path, text: str, place: Path) -> dict[str, Tensor]:
    """Merge with a merge file; {folder} in it is that of the bases."""
    config = place.with_suffix(".yaml")
    config.write_text(text.format(folder=folder))
    job = MergeJob.read(config, place)
    job.check()
    job.run(lambda _bytes: None)
    return load_file(place / "model.safetensors")


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_one_adapter_with_coefficient_one_is_peft_s_own_merge(
    folder: Path, save: Save, tmp_path: Path, variant: str
) -> None:
    adapter = save("adapter", **VARIANTS[variant])
    theirs = merged_by_peft(folder, "llama", adapter)

    ours = merged(folder, "method: linear\nmodels: [adapter]\n", tmp_path / "merged")

    assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_one_adapter_of_weights_that_are_stored_transposed_is_peft_s_own_merge(
    folder: Path, save: Save, tmp_path: Path
) -> None:
    modules = ["c_attn", "c_proj", "c_fc"]  # c_proj is square: its shape does not tell
    adapter = save(
        "adapter", "gpt2", r=4, lora_alpha=8, target_modules=modules, fan_in_fan_out=True
    )
    theirs = merged_by_peft(folder, "gpt2", adapter)

    text = "method: task_arithmetic\nmodels: [adapter]\nbase: '{folder}/gpt2'\n"
    ours = merged(folder, text, tmp_path / "merged")

    assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_two_adapters_of_different_ranks_and_alphas_are_the_merged_full_weights(
    folder: Path, save: Save, tmp_path: Path
) -> None:
    one = merged_by_peft(folder, "llama", save("one", **VARIANTS["plain"]))
    other = merged_by_peft(folder, "llama", save("other", seed=2, **VARIANTS["patterns"]))

    text = "method: linear\nmodels: [one, {{path: other, coefficient: 3}}]\nbase: {folder}/llama\n"
    ours = merged(folder, text, tmp_path / "merged")

    expected = {name: (one[name] + 3 * other[name]) / 4 for name in one}
    assert_close(ours, expected, rtol=0, atol=1e-6)


def test_peft_loads_the_adapter_that_two_were_merged_into(
    folder: Path, save: Save, tmp_path: Path
) -> None:
    save("one", **VARIANTS["plain"])
    save("other", seed=2, **VARIANTS["patterns"])
    models = "models: [one, {{path: other, coefficient: 0.5}}]\n"
    full = merged(folder, f"method: linear\n{models}", tmp_path / "full")

    (tmp_path / "merge.yaml").write_text(f"method: linear\noutput: adapter\n{models}".format())
    job = MergeJob.read(tmp_path / "merge.yaml", tmp_path / "adapter")
    AdapterMergeJob(job.file, job.folder, job.place).run()

    base = load_base(folder, "llama")
    # PEFT warns of factors that it misses or cannot place, and warnings are errors here.
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    whole = load_base(folder, "llama").eval()
    whole.load_state_dict(full, strict=True)
    tokens = torch.arange(12).view(2, 6)
    assert_close(adapted(tokens).logits, whole(tokens).logits, rtol=1e-5, atol=1e-5)
    assert_close(merged_by_peft(folder, "llama", tmp_path / "adapter"), full, rtol=0, atol=1e-6)


@pytest.mark.parametrize("base", ["llama", "gpt2"])
def test_peft_loads_an_extracted_adapter(folder: Path, tmp_path: Path, base: str) -> None:
    """GPT-2 stores weights as (in, out) and ties its head, so its embedding is not changed."""
    net = load_base(folder, base)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "wte" not in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    net.save_pretrained(tmp_path / "tuned")
    before, tuned = open_source(folder / base), open_source(tmp_path / "tuned")

    extraction = LoraExtraction(tuned, before, "", tmp_path / "lora", rank=64, saves_rest=True)
    found = dict(extraction.run())
    adapted = peft.PeftModel.from_pretrained(load_base(folder, base), str(tmp_path / "lora"))

    assert total_error(found.values()) < 1e-6
    merged = adapted.merge_and_unload().state_dict()
    expected = load_file(tmp_path / "tuned" / "model.safetensors")
    assert_close({name: merged[name] for name in expected}, expected, rtol=0, atol=1e-5)
