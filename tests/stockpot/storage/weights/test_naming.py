"""Models of one architecture under different names: recognised, read bit for bit, or named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_folders import randn
from hypothesis import given
from hypothesis import strategies as st
from merge_files import merge, read_job, save_model
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.weights.naming import named_like
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.rearranged import Part, rearranged
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source

State = dict[str, Tensor]

BERT = {
    "embeddings.word_embeddings.weight": (5, 4),
    "embeddings.LayerNorm.weight": (4,),
    "embeddings.LayerNorm.bias": (4,),
    "encoder.layer.0.output.dense.weight": (4, 4),
    "pooler.dense.weight": (4, 4),
}
NUM_EXPERTS, HIDDEN, WIDTH = 3, 2, 4


def _state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> State:
    return {name: randn(*shape, seed=seed + n) for n, (name, shape) in enumerate(shapes.items())}


def _renamed(state: State, rename: Callable[[str], str]) -> State:
    return {rename(name): tensor for name, tensor in state.items()}


def _legacy(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta")


def _save(folder: Path, **states: State) -> list[Source]:
    for name, state in states.items():
        save_model(folder / name, state)
    return [open_source(folder / name) for name in states]


def _read(source: Source) -> State:
    return {name: source.read(name) for name in source.tensors}


def _assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize(
    "rename",
    [
        _legacy,
        "bert.{}".format,
        "module.{}".format,
        "_orig_mod.{}".format,
        "module._orig_mod.{}".format,
        lambda name: name.replace("layer.0", "layer.0._orig_mod"),
        lambda name: f"module.bert.{_legacy(name)}",
    ],
    ids=["gamma", "prefix", "parallel", "compiled", "both", "inner", "all"],
)
def test_names_of_one_architecture_follow_the_reference(
    tmp_path: Path, rename: Callable[[str], str]
) -> None:
    plain = _state(BERT)
    one, other = _save(tmp_path, one=plain, other=_renamed(_state(BERT, 9), rename))

    _assert_same(_read(named_like(other, one)), _state(BERT, 9))
    _assert_same(_read(named_like(one, other)), _renamed(plain, rename))
    assert named_like(other, one).digest == other.digest
    assert "named as in one" in named_like(other, one).notes[0]


def test_one_prefix_may_stand_for_another(tmp_path: Path) -> None:
    one = _renamed(_state(BERT), "backbone.{}".format) | {"head.weight": torch.zeros(2)}
    other = _renamed(_state(BERT, 9), "model.{}".format) | {"head.weight": torch.ones(2)}
    first, second = _save(tmp_path, one=one, other=other)

    found = _read(named_like(second, first))

    expected = _renamed(_state(BERT, 9), "backbone.{}".format) | {"head.weight": torch.ones(2)}
    _assert_same(found, expected)


def test_a_head_that_one_model_has_alone_does_not_hide_the_prefix(tmp_path: Path) -> None:
    body = {n: shape for n, shape in BERT.items() if "pooler" not in n}
    with_head = _renamed(_state(body, 9), "bert.{}".format) | {"cls.bias": torch.ones(5)}
    one, other = _save(tmp_path, one=_state(BERT), other=with_head)

    found = named_like(other, one)

    assert found.tensors.keys() == {*body, "cls.bias"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a.w": (2,)}, {"text.a.w": (2,), "vision.a.w": (2,)}),  # two prefixes
        ({"a.w": (2,), "b.w": (2,)}, {"x.a.w": (2,), "x.c.w": (2,)}),  # neither side is explained
        ({"a.w": (2,)}, {"b.w": (2,)}),
        ({"n.LayerNorm.gamma": (2,), "n.LayerNorm.weight": (2,)}, {"n.LayerNorm.weight": (2,)}),
        ({"ls.gamma": (2,)}, {"ls.weight": (2,)}),  # a layer scale
    ],
    ids=range(5),
)
def test_names_that_no_rule_explains_stay(
    tmp_path: Path, one: dict[str, tuple[int, ...]], other: dict[str, tuple[int, ...]]
) -> None:
    first, second = _save(tmp_path, one=_state(one), other=_state(other))

    assert named_like(first, second) is first
    assert named_like(second, first) is second


def _experts(layout: str, seed: int = 0) -> State:
    """One mixture of experts in one of its layouts, as transformers 5 converts them."""
    gates, ups = (randn(NUM_EXPERTS, HIDDEN, WIDTH, seed=seed + n) for n in (0, 1))
    downs, router = randn(NUM_EXPERTS, WIDTH, HIDDEN, seed=seed + 2), randn(3, WIDTH, seed=seed + 3)
    if layout == "fused":
        prefix = "model.layers.0.mlp"
        return {
            f"{prefix}.gate.weight": router,
            f"{prefix}.experts.gate_up_proj": torch.cat([gates, ups], dim=1),
            f"{prefix}.experts.down_proj": downs,
        }
    block, names = {
        "mixtral": ("block_sparse_moe", ("w1", "w3", "w2")),
        "qwen": ("mlp", ("gate_proj", "up_proj", "down_proj")),
    }[layout]
    prefix = f"model.layers.0.{block}"
    return {f"{prefix}.gate.weight": router} | {
        f"{prefix}.experts.{number}.{name}.weight": stacked[number].clone()
        for number in range(NUM_EXPERTS)
        for name, stacked in zip(names, (gates, ups, downs), strict=True)
    }


@pytest.mark.parametrize("reference", ["fused", "mixtral", "qwen"])
@pytest.mark.parametrize("model", ["fused", "mixtral", "qwen"])
def test_layouts_of_experts_are_converted_exactly(
    tmp_path: Path, model: str, reference: str
) -> None:
    one, other = _save(tmp_path, one=_experts(reference), other=_experts(model, 9))

    _assert_same(_read(named_like(other, one)), _experts(reference, 9))


def test_experts_without_the_outer_prefix_are_found_too(tmp_path: Path) -> None:
    bare = _renamed(_experts("mixtral", 9), lambda name: name.removeprefix("model."))
    norm = {"norm.weight": torch.ones(3)}
    reference = _experts("fused") | {"model.norm.weight": torch.ones(3)}
    one, other = _save(tmp_path, one=reference, other=bare | norm)

    found = _read(named_like(other, one))

    _assert_same(found, _experts("fused", 9) | {"model.norm.weight": torch.ones(3)})


@pytest.mark.full
@pytest.mark.parametrize("architecture", ["Mixtral", "Qwen3Moe", "NemotronH"])
def test_the_conversion_is_that_of_transformers(tmp_path: Path, architecture: str) -> None:
    import transformers

    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=7,
        hidden_size=8,
        intermediate_size=6,
        moe_intermediate_size=6,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=3,
    )
    if architecture == "NemotronH":
        config.layers_block_type = ["moe"]
    net = getattr(transformers, f"{architecture}ForCausalLM")(config)
    net.save_pretrained(tmp_path / "saved")
    in_memory = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    save_model(tmp_path / "fused", in_memory)
    saved, fused = open_source(tmp_path / "saved"), open_source(tmp_path / "fused")
    assert any(".experts.2." in name for name in saved.tensors)
    assert any(name.endswith(".experts.down_proj") for name in fused.tensors)

    _assert_same(_read(named_like(saved, fused)), in_memory)
    _assert_same(_read(named_like(fused, saved)), _read(saved))


@pytest.mark.parametrize("change", ["shape", "lost", "transposed"])
def test_experts_that_do_not_fit_are_named_with_what_helps(tmp_path: Path, change: str) -> None:
    single = _experts("qwen")
    name = "model.layers.0.mlp.experts.1.up_proj.weight"
    if change == "shape":
        single[name] = torch.ones(HIDDEN + 1, WIDTH)
    elif change == "lost":
        del single[name]
    save_model(tmp_path / "single", single)
    kind = {"model_type": "qwen3_vl_moe"} if change == "transposed" else {}
    save_model(tmp_path / "fused", _experts("fused"), **kind)

    with pytest.raises(InputError, match=r"experts are laid out in two ways .* save_pretrained"):
        read_job(tmp_path, "method: linear\nmodels: [fused, single]").check()


def test_a_name_that_is_alike_is_suggested(tmp_path: Path) -> None:
    weight = torch.ones(2, 3)
    _save(tmp_path, a={"block.ffn.weight": weight}, b={"block.fnn.weight": weight})

    expected = r"perhaps 'block.ffn.weight' in a is 'block.fnn.weight' in b"
    with pytest.raises(InputError, match=expected):
        read_job(tmp_path, "method: linear\nmodels: [a, b]").check()


def test_a_merge_has_the_names_of_the_base_and_a_note(tmp_path: Path) -> None:
    old = _renamed(_state(BERT, 9), lambda name: f"bert.{_legacy(name)}")
    _save(tmp_path, base=_state(BERT), old=old)
    text = "method: task_arithmetic\nmodels: [old]\nbase: base"

    merged = merge(tmp_path, text)

    torch.testing.assert_close(merged, _state(BERT, 9))
    (note,) = [n for n in read_job(tmp_path, text, "x").notes if "named as in base" in n]
    assert note.startswith(
        "old: 5 tensors are named as in base: 'embeddings.LayerNorm.bias' is read from 'b"
    )


@given(bounds=st.tuples(st.integers(0, 14), st.integers(0, 14)).map(sorted), data=st.data())
def test_any_run_of_a_rearranged_tensor_is_that_of_the_whole(bounds: list[int], data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, 14), min_size=2, max_size=4)))
    whole = torch.arange(14.0)
    pieces = {f"p{n}": whole[a:b] for n, (a, b) in enumerate(itertools.pairwise([0, *cuts, 14]))}
    inner = Source(Path(), (), _types(pieces), loaded=pieces)
    parts = {"w": tuple(Part(name, 0, len(piece)) for name, piece in pieces.items())}
    source = rearranged(inner, parts, {"w": (7, 2)}, "")

    first, last = bounds

    assert torch.equal(source.read_run("w", first, last), whole[first:last])
    assert torch.equal(source.read("w"), whole.view(7, 2))
    assert source.num_bytes == whole.nbytes


def _types(state: State) -> dict[str, StoredTensor]:
    return {n: StoredTensor(Path(), t.dtype, tuple(t.shape), 0, t.nbytes) for n, t in state.items()}
