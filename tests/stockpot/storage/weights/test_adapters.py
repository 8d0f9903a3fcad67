"""Adapters opened alone and on their base: what they make of it, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from stockpot.errors import InputError
from stockpot.storage.weights.adapters import is_adapter, open_adapter
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.sources import Source, open_files

Adapt = Callable[..., Source]

A, B = randn(2, 5, seed=1), randn(3, 2, seed=2)  # of a weight (3, 5)


@pytest.fixture
def adapt(tmp_path: Path) -> Adapt:
    """Put an adapter of these tensors on a base of these."""

    def run(base: dict[str, Tensor], tensors: dict[str, Tensor], **config: Any) -> Source:
        save_file(base, tmp_path / "base.safetensors")
        save_adapter(tmp_path / "adapter", tensors, **config)
        return open_source(tmp_path / "adapter", open_source(tmp_path / "base.safetensors"))

    return run


def test_a_weight_becomes_base_plus_alpha_over_r_times_b_a(adapt: Adapt) -> None:
    base = {"f.weight": randn(3, 5), "g.weight": randn(4, seed=3)}

    source = adapt(base, factors("f", A, B))

    assert_close(source.read("f.weight"), base["f.weight"] + 2 * B @ A)
    assert torch.equal(source.read("g.weight"), base["g.weight"])
    assert source.tensors.keys() == base.keys()


@pytest.mark.parametrize(
    ("config", "scaling"),
    [
        ({"use_rslora": True}, 4 / math.sqrt(2)),
        ({"lora_alpha": 3}, 1.5),
        ({"alpha_pattern": {"x.f": 9, "g": 1}}, 4.5),
        ({"r": 8, "rank_pattern": {"f": 2}}, 2.0),
        ({"r": 8, "rank_pattern": {"^x.f": 2}, "use_rslora": True}, 4 / math.sqrt(2)),
        ({"alpha_pattern": {"f": 6, "x.f": 8}}, 3.0),  # the first that is for it
    ],
)
def test_scaling_follows_rank_alpha_and_their_patterns(
    adapt: Adapt, config: dict[str, Any], scaling: float
) -> None:
    base = {"x.f.weight": randn(3, 5)}

    source = adapt(base, factors("x.f", A, B), **config)

    assert_close(source.read("x.f.weight"), base["x.f.weight"] + scaling * B @ A)


def test_a_weight_that_is_stored_transposed_is_known_by_its_shape(adapt: Adapt) -> None:
    source = adapt({"f.weight": torch.zeros(5, 3)}, factors("f", A, B))

    assert_close(source.read("f.weight"), 2 * (B @ A).T)


@pytest.mark.parametrize("flag", [False, True])
def test_a_square_weight_is_transposed_by_the_flag(adapt: Adapt, flag: bool) -> None:
    square = randn(2, 3, seed=4)

    source = adapt({"f.weight": torch.zeros(3, 3)}, factors("f", square, B), fan_in_fan_out=flag)

    change = 2 * B @ square
    assert_close(source.read("f.weight"), change.T if flag else change)


def test_embeddings_have_factors_of_their_own_kind(adapt: Adapt) -> None:
    a, b = randn(2, 7, seed=5), randn(7, 2, seed=6)
    tensors = {"e.lora_embedding_A": a, "e.lora_embedding_B": b}

    source = adapt({"e.weight": torch.zeros(7, 7)}, tensors)

    assert_close(source.read("e.weight"), 2 * (b @ a).T)


def test_convolutions_are_matrices_over_output_channels(adapt: Adapt) -> None:
    a, b = randn(2, 4, 3, 3, seed=7), randn(6, 2, 1, 1, seed=8)

    source = adapt({"c.weight": torch.zeros(6, 4, 3, 3)}, factors("c", a, b))

    expected = 2 * torch.einsum("or,rihw->oihw", b[..., 0, 0], a)
    assert_close(source.read("c.weight"), expected)


def test_dora_gives_rows_the_lengths_that_were_learnt(adapt: Adapt) -> None:
    lengths = torch.tensor([1.0, 2.0, 3.0])
    tensors = factors("f", A, B) | {"f.lora_magnitude_vector": lengths}

    source = adapt({"f.weight": randn(3, 5)}, tensors, use_dora=True)

    assert_close(source.read("f.weight").norm(dim=1), lengths)


def test_biases_and_saved_modules_are_replaced_whole(adapt: Adapt) -> None:
    base = {"f.weight": randn(3, 5), "f.bias": randn(3), "head.weight": randn(2, 5)}
    tensors = factors("f", A, B) | {
        "f.base_layer.bias": torch.ones(3),
        "head.weight": torch.ones(4, 5),
        "score.weight": torch.ones(1),
    }

    source = adapt(base, tensors, bias="all", modules_to_save=["head", "score"])

    assert torch.equal(source.read("f.bias"), torch.ones(3))
    assert torch.equal(source.read("head.weight"), torch.ones(4, 5))
    assert torch.equal(source.read("score.weight"), torch.ones(1))
    assert source.tensors["head.weight"].shape == (4, 5)


def test_a_saved_embedding_replaces_the_base_s_before_it_is_changed(adapt: Adapt) -> None:
    a, b = randn(2, 7, seed=5), randn(3, 2, seed=6)
    grown = randn(7, 3, seed=9)
    tensors = {
        "e.lora_embedding_A": a,
        "e.lora_embedding_B": b,
        "e.base_layer.weight": grown,
    }

    source = adapt({"e.weight": torch.zeros(6, 3)}, tensors)

    assert_close(source.read("e.weight"), grown + 2 * (b @ a).T)


@pytest.mark.parametrize("stored", ["h.0.f.weight", "outer.model.h.0.f.weight"])
def test_names_may_differ_by_the_outer_module(adapt: Adapt, stored: str) -> None:
    source = adapt({stored: torch.zeros(3, 5)}, factors("model.h.0.f", A, B))

    assert_close(source.read(stored), 2 * B @ A)


def test_half_precision_is_widened_and_the_output_keeps_the_base_s_dtype(adapt: Adapt) -> None:
    base = {"f.weight": randn(3, 5).bfloat16(), "g.weight": randn(3).half()}
    a, b = A.bfloat16(), B.bfloat16()

    source = adapt(base, factors("f", a, b))

    assert source.tensors["f.weight"].dtype == torch.float32
    assert_close(source.read("f.weight"), base["f.weight"].float() + 2 * b.float() @ a.float())
    assert source.output_dtype("f.weight") == torch.bfloat16
    assert source.output_dtype("g.weight") == torch.float16
    assert source.tensors["f.weight"].num_bytes == 2 * (15 + 10 + 6)


@pytest.fixture(scope="module")
def tall(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    """Return adapted models with weights of more rows than are multiplied at once, by kind."""
    folder = tmp_path_factory.mktemp("tall")
    save_file({"f.weight": randn(45, 6)}, folder / "base.safetensors")
    plain = factors("f", randn(2, 6), randn(45, 2))
    save_adapter(folder / "plain", plain)
    save_adapter(folder / "transposed", factors("f", randn(2, 45), randn(6, 2)))
    save_adapter(folder / "dora", plain | {"f.lora_magnitude_vector": randn(45)}, use_dora=True)
    base = open_source(folder / "base.safetensors")
    return {name: open_source(folder / name, base) for name in ("plain", "transposed", "dora")}


@given(st.data())
@pytest.mark.parametrize("kind", ["plain", "transposed", "dora"])
def test_a_run_has_the_bits_of_the_whole_tensor(
    tall: dict[str, Source], kind: str, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, 270))
    last = data.draw(st.integers(first, 270))

    run = tall[kind].read_run("f.weight", first, last)

    assert torch.equal(run, tall[kind].read("f.weight").view(-1)[first:last])


def test_the_digest_is_of_config_weights_and_base(adapt: Adapt, tmp_path: Path) -> None:
    source = adapt({"f.weight": randn(3, 5)}, factors("f", A, B))
    save_file({"f.weight": randn(3, 5, seed=1)}, tmp_path / "other.safetensors")
    save_adapter(tmp_path / "again", factors("f", A, B))
    save_adapter(tmp_path / "alpha", factors("f", A, B), lora_alpha=5)
    save_adapter(tmp_path / "factors", factors("f", A, 2 * B))

    base = open_source(tmp_path / "base.safetensors")
    digests = [open_source(tmp_path / name, base).digest for name in ("again", "alpha", "factors")]
    other = open_source(tmp_path / "again", open_source(tmp_path / "other.safetensors")).digest

    assert source.digest == digests[0]
    assert len({*digests, other}) == 4


def test_the_base_of_the_config_counts_if_it_is_here(tmp_path: Path) -> None:
    save_file({"f.weight": torch.zeros(3, 5)}, tmp_path / "base.safetensors")
    named = str(tmp_path / "base.safetensors")
    save_adapter(tmp_path / "adapter", factors("f", A, B), base_model_name_or_path=named)

    source = open_source(tmp_path / "adapter")

    assert_close(source.read("f.weight"), 2 * B @ A)
    assert source.folder is None


@pytest.mark.parametrize("named", [None, "", "someone/model-of-the-hub"])
def test_without_a_base_it_is_said_what_to_name(
    tmp_path: Path, named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    save_adapter(tmp_path / "a", factors("f", A, B), base_model_name_or_path=named)

    with pytest.raises(InputError, match=r"is an adapter, .* name its base"):
        open_source(tmp_path / "a")


def test_factors_are_not_opened_as_a_model(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", factors("f", A, B))

    with pytest.raises(InputError, match=r"has LoRA factors .* name the adapter's folder"):
        open_source(folder / "adapter_model.safetensors")
    assert is_adapter(folder)
    assert len(open_files(folder).tensors) == 2


def test_older_weights_in_a_pickle_are_read(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", factors("f", A, B))
    state = {f"base_model.model.{name}": tensor for name, tensor in factors("f", A, B).items()}
    torch.save(state, folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()

    adapter = open_adapter(folder)

    assert adapter.stored(adapter.changes["f"].a).shape == (2, 5)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"peft_type": "LOHA"}, "peft_type must be 'LORA', got 'LOHA'"),
        ({"peft_type": None}, "peft_type must be 'LORA', got None"),
        ({"r": 0}, "r: must be greater than 0, got 0"),
        ({"r": True}, "r: must be a valid integer, got True"),
        ({"lora_alpha": "16"}, "lora_alpha: must be a valid number, got '16'"),
        ({"rank_pattern": [1]}, r"rank_pattern: must be a valid mapping, got \[1\]"),
        ({"rank_pattern": {"f": -1}}, "rank_pattern.f: must be greater than 0, got -1"),
        ({"alpha_pattern": {"f(": 2}}, r"alpha_pattern.f\(: must be a valid regular expression"),
        ({"use_qalora": True, "lora_bias": True}, "lora_bias, use_qalora: not supported"),
        ({"init_lora_weights": "pissa_niter_4"}, "which has changed the base's weights"),
        ({"use_dora": True}, r"must have \['lora_A', 'lora_B', 'lora_magnitude_vector'\]"),
        (
            {"r": 3},
            r"A has shape \(2, 5\) and B \(3, 2\), but the rank in adapter_config.json is 3",
        ),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(
    tmp_path: Path, config: dict[str, Any], expected: str
) -> None:
    save_adapter(tmp_path / "a", factors("f", A, B), **config)

    with pytest.raises(InputError, match=expected):
        open_adapter(tmp_path / "a")


@pytest.mark.parametrize("text", ["{", "[]", '"LORA"'])
def test_a_damaged_config_is_refused(tmp_path: Path, text: str) -> None:
    folder = save_adapter(tmp_path / "a", factors("f", A, B))
    (folder / "adapter_config.json").write_text(text)

    with pytest.raises(InputError, match=r"adapter_config.json: (not readable|must be a mapping)"):
        open_source(folder)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"f.lora_B.weight": B}, r"module 'f': must have .* got \['lora_B'\]"),
        ({"f.lora_A.weight": A}, r"module 'f': must have .* got \['lora_A'\]"),
        (factors("f", A, B) | {"f.lora_diag": A}, "f.lora_diag': not supported"),
        (factors("f", A, B) | {"f.lora_B.bias": A}, "f.lora_B.bias': not supported"),
        (factors("f", A, B.T), r"A has shape \(2, 5\) and B \(2, 3\)"),
        (factors("f", A, randn(3, 2, 1)), "cannot be multiplied"),
        (factors("f", randn(2), randn(2)), "cannot be multiplied"),
        (factors("f", A.int(), B.int()), "factors must be floating-point"),
        (factors("f", A, B) | {"f.lora_magnitude_vector": randn(3)}, "must have"),
    ],
)
def test_factors_that_do_not_fit_each_other_are_refused(
    tmp_path: Path, tensors: dict[str, Tensor], expected: str
) -> None:
    save_adapter(tmp_path / "a", tensors)

    with pytest.raises(InputError, match=expected):
        open_adapter(tmp_path / "a")


def test_tensors_without_the_wrappers_name_are_refused(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", factors("f", A, B))
    save_file({"f.lora_A.weight": A}, folder / "adapter_model.safetensors")

    with pytest.raises(InputError, match=r"must begin with 'base_model.model.'"):
        open_adapter(folder)


def test_a_config_without_weights_is_refused(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", factors("f", A, B))
    (folder / "adapter_model.safetensors").unlink()

    with pytest.raises(InputError, match=r"has adapter_config.json and no adapter_model.safet"):
        open_source(folder)


@pytest.mark.parametrize(
    ("base", "tensors", "expected"),
    [
        ({"g.weight": randn(3, 5)}, factors("f", A, B), "changes module 'f', and .* has no tensor"),
        ({"f.weight": randn(3, 6)}, factors("f", A, B), r"of shape \(3, 5\), the base's is"),
        ({"f.weight": randn(3, 5) > 0}, factors("f", A, B), "convert the base to floats"),
        ({"f.weight": randn(3, 5)}, {"h.weight": A}, "replaces 'h.weight', which .* not have"),
        (
            {"f.weight": randn(5, 3)},
            factors("f", A, B) | {"f.lora_magnitude_vector": randn(3)},
            r"DoRA is supported for weights \(out, in\)",
        ),
        (
            {"f.weight": randn(3, 5)},
            factors("f", A, B) | {"f.lora_magnitude_vector": randn(1, 3)},
            r"DoRA is supported for .* got \(3, 5\) and \(1, 3\)",
        ),
    ],
)
def test_an_adapter_of_another_base_is_refused(
    adapt: Adapt, base: dict[str, Tensor], tensors: dict[str, Tensor], expected: str
) -> None:
    use_dora = "f.lora_magnitude_vector" in tensors

    with pytest.raises(InputError, match=expected):
        adapt(base, tensors, use_dora=use_dora)


def test_a_new_embedding_is_refused_where_it_would_become_a_tied_head(
    adapt: Adapt, tmp_path: Path
) -> None:
    embedding = {"model.embed_tokens.weight": randn(7, 3)}
    saved = {"modules_to_save": ["embed_tokens"]}

    with pytest.raises(InputError, match=r"replaces .*, to which .* may tie its head"):
        adapt(embedding, {"model.embed_tokens.weight": randn(7, 3, seed=1)}, **saved)

    save_file(embedding | {"lm_head.weight": randn(7, 3, seed=2)}, tmp_path / "untied.safetensors")
    source = open_source(tmp_path / "adapter", open_source(tmp_path / "untied.safetensors"))
    assert torch.equal(source.read("model.embed_tokens.weight"), randn(7, 3, seed=1))


def test_dora_of_embeddings_is_refused(tmp_path: Path) -> None:
    tensors = {
        "e.lora_embedding_A": A,
        "e.lora_embedding_B": B,
        "e.lora_magnitude_vector": randn(3),
    }
    save_adapter(tmp_path / "a", tensors, use_dora=True)

    with pytest.raises(InputError, match="module 'e': DoRA of embeddings"):
        open_adapter(tmp_path / "a")


@pytest.mark.parametrize(
    ("named", "notes"),
    [
        ("organisation/base.safetensors", ()),
        ("", ()),
        (
            "organisation/other",
            (
                "adapter_config.json names organisation/other as its base; it is added to "
                "base.safetensors",
            ),
        ),
    ],
)
def test_an_adapter_on_another_base_than_its_own_has_a_note(
    adapt: Adapt, named: str, notes: tuple[str, ...]
) -> None:
    source = adapt({"f.weight": randn(3, 5)}, factors("f", A, B), base_model_name_or_path=named)

    assert tuple(source.notes) == notes
