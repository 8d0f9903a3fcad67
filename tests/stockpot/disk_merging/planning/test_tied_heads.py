"""Heads that are tied to the embedding, stored once or twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stockpot.errors import InputError
from stockpot.storage.weights.tensor_names import tied_names
from tests.support.merge_files import language_model, merge, read_job, save_model

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write models that store a tied head once, twice, or have a head of their own."""
    twice = language_model(2)
    save_model(tmp_path / "once", language_model(1, head=False), tie_word_embeddings=True)
    save_model(
        tmp_path / "twice", twice | {HEAD: twice[EMBEDDING].clone()}, tie_word_embeddings=True
    )
    save_model(tmp_path / "silent", language_model(3, head=False), model_type="gemma")
    save_model(tmp_path / "own", language_model(4), tie_word_embeddings=False)
    return tmp_path


def config(folder: Path) -> object:
    return json.loads((folder / "merged" / "config.json").read_text())["tie_word_embeddings"]


@pytest.mark.parametrize("models", ["once, twice", "twice, once", "twice, silent, once"])
def test_a_head_that_all_tie_is_written_once(folder: Path, models: str) -> None:
    merged = merge(folder, f"method: linear\nmodels: [{models}]")

    assert HEAD not in merged
    assert EMBEDDING in merged
    assert config(folder) is True
    card = (folder / "merged" / "README.md").read_text()
    assert f"- {EMBEDDING}: {HEAD} is tied to it and not written" in card


@pytest.mark.parametrize("models", ["own, once", "once, own", "silent, own", "own, twice"])
def test_a_head_that_only_some_tie_is_untied(folder: Path, models: str) -> None:
    job = read_job(folder, f"method: linear\nmodels: [{models}]", "x")

    merged = merge(folder, f"method: linear\nmodels: [{models}]")

    tying = next(name for name in models.split(", ") if name != "own")
    seed = {"once": 1, "twice": 2, "silent": 3}[tying]
    expected = (language_model(4)[HEAD] + language_model(seed)[EMBEDDING]) / 2
    torch.testing.assert_close(merged[HEAD], expected)
    assert any(f"{HEAD}: untied: in {tying} it is the embedding" in note for note in job.notes)
    assert config(folder) is False


def test_a_base_that_ties_its_head_is_untied_for_models_with_their_own(folder: Path) -> None:
    merged = merge(folder, "method: task_arithmetic\nbase: once\nmodels: [own]")

    torch.testing.assert_close(merged[HEAD], language_model(4)[HEAD])
    assert config(folder) is False


def test_a_head_that_is_missing_and_not_tied_is_an_error(folder: Path) -> None:
    save_model(folder / "lost", language_model(5, head=False), tie_word_embeddings=False)

    with pytest.raises(InputError, match=r"^merge.yaml: lost: lacks lm_head.weight, which own has"):
        read_job(folder, "method: linear\nmodels: [own, lost]").check()


def test_models_without_a_configuration_tie_nothing(folder: Path) -> None:
    save_model(folder / "bare", language_model(6))

    assert HEAD in merge(folder, "method: linear\nmodels: [bare, own]")


FAMILIES = {
    "t5": ("shared", ["lm_head", "encoder.embed_tokens", "decoder.embed_tokens"]),
    "bart": ("model.shared", ["lm_head", "model.encoder.embed_tokens"]),
    "whisper": ("model.decoder.embed_tokens", ["proj_out"]),
    "gpt2": ("transformer.wte", ["lm_head"]),
    "bert": ("bert.embeddings.word_embeddings", ["cls.predictions.decoder"]),
    "roberta": ("roberta.embeddings.word_embeddings", ["lm_head.decoder"]),
    "electra": ("electra.embeddings.word_embeddings", ["generator_lm_head"]),
    "distilbert": ("distilbert.embeddings.word_embeddings", ["vocab_projector"]),
    "modernbert": ("model.embeddings.tok_embeddings", ["decoder"]),
    "xlnet": ("transformer.word_embedding", ["lm_loss"]),
    "mamba": ("backbone.embeddings", ["lm_head"]),
    "gpt_neox": ("gpt_neox.embed_in", ["embed_out"]),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_writes_what_is_tied_once_whichever_way_it_was_stored(
    tmp_path: Path, family: str
) -> None:
    embedding, twins = FAMILIES[family]
    weights = [torch.randn(5, 4, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    once = [{f"{embedding}.weight": weight} for weight in weights]
    twice = {f"{twin}.weight": weights[1].clone() for twin in twins}
    save_model(tmp_path / "base", once[0], model_type=family)
    save_model(tmp_path / "a", once[1] | twice, model_type=family)
    save_model(tmp_path / "b", once[2], model_type=family)

    text = "method: dare_linear\nbase: base\nmodels: [a, b]\noptions: {density: 0.5}"
    merged = merge(tmp_path, text)

    assert [*merged] == [f"{embedding}.weight"]
    assert config(tmp_path) is True


def test_the_bias_of_a_head_is_written_once(tmp_path: Path) -> None:
    names = ["cls.predictions.bias", "lm_head.bias"]
    once = {name: torch.arange(3.0) for name in names}
    twice = {name.replace(".bias", ".decoder.bias"): torch.arange(3.0) for name in names}
    save_model(tmp_path / "a", once, hidden_size=4)
    save_model(tmp_path / "b", once | twice, hidden_size=4)

    assert [*merge(tmp_path, "method: linear\nmodels: [a, b]")] == names


def test_two_embeddings_that_differ_are_two_whatever_the_configuration_says(
    folder: Path,
) -> None:
    save_model(folder / "other", language_model(7), tie_word_embeddings=True)

    merged = merge(folder, "method: linear\nmodels: [other, own]")

    expected = (language_model(7)[HEAD] + language_model(4)[HEAD]) / 2
    torch.testing.assert_close(merged[HEAD], expected)
    assert config(folder) is False


def test_an_encoder_and_a_decoder_may_have_embeddings_of_their_own(tmp_path: Path) -> None:
    names = [f"{part}.weight" for part in ("shared", "encoder.embed_tokens", "lm_head")]
    state = {name: torch.full((2, 2), float(n)) for n, name in enumerate(names)}
    for model in ("a", "b"):
        save_model(tmp_path / model, state, model_type="bart", tie_word_embeddings=False)

    assert {*merge(tmp_path, "method: linear\nmodels: [a, b]")} == {*names}
    assert tied_names(["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD]) == (
        "decoder.embed_tokens.weight",
        HEAD,
    )


def test_only_one_embedding_and_one_head_are_a_pair() -> None:
    assert tied_names([EMBEDDING, HEAD, "model.norm.weight"]) == (EMBEDDING, HEAD)
    assert tied_names(["a.embed_tokens.weight", "b.embed_tokens.weight", HEAD]) is None
    assert tied_names([EMBEDDING]) is None
