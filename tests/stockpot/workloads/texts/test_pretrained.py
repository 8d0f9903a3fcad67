"""Pretrained models from folders and the hub's cache: what is not a model is named."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_transformers import write_bert

from stockpot.errors import InputError
from stockpot.seeding import seeded_generator
from stockpot.workloads.texts.pretrained import Pretrained, check_installed, is_hub_id

CLASSIFIER = "AutoModelForSequenceClassification"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bert, tmp_path / "model")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Close the network to the hub's library, and give it an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors: dict[str, Any] = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def build(folder: Path, seed: int = 0, **config: Any) -> dict[str, torch.Tensor]:
    net = Pretrained(str(folder)).build(CLASSIFIER, seeded_generator(seed), **config)
    return net.state_dict()


def test_relative_folders_are_of_the_project(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STOCKPOT_ROOT", str(tmp_path))

    assert Pretrained("model").folder == copy


def test_the_longest_text_is_what_model_and_tokenizer_take(copy: Path) -> None:
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 9}))

    assert Pretrained(str(copy)).longest == 9


def test_a_head_for_other_classes_is_drawn_anew_and_one_that_fits_is_kept(copy: Path) -> None:
    change_weights(
        copy, **{"classifier.weight": torch.ones(3, 16), "classifier.bias": torch.ones(3)}
    )

    two, three = build(copy, num_labels=2), build(copy, num_labels=3)

    assert not two["classifier.weight"].eq(1).any()
    assert three["classifier.weight"].eq(1).all()


def test_a_pooling_layer_may_be_missing_and_is_drawn(copy: Path) -> None:
    change_weights(copy, **{"pooler.dense.weight": None, "pooler.dense.bias": None})

    first, again, other = (build(copy, seed)["bert.pooler.dense.weight"] for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_weights_of_half_precision_are_float32(copy: Path) -> None:
    halved = {n: t.half() for n, t in load_file(copy / "model.safetensors").items()}
    save_file(halved, copy / "model.safetensors", metadata={"format": "pt"})

    assert {tensor.dtype for tensor in build(copy).values()} == {torch.float32}


def test_a_quantised_model_is_refused_also_if_its_config_does_not_say_so(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    name = next(name for name in weights if name.endswith("query.weight"))
    weights[name] = weights[name].to(torch.float8_e4m3fn)
    weights[f"{name}_scale_inv"] = torch.ones(())
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(InputError, match=r"must be a model of floats, got .* FP8.* passthrough"):
        build(copy)


def test_a_body_without_all_weights_is_refused(copy: Path) -> None:
    change_weights(copy, **{"embeddings.word_embeddings.weight": None})

    with pytest.raises(InputError, match=r"none that fit 1 tensors such as 'bert\.embeddings"):
        build(copy)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", None, r"must have config.json and weights .* got \['model.safetensors'"),
        ("model.safetensors", None, "must have config.json and weights in safetensors files"),
        ("config.json", "{", "must be a model that transformers can load, got"),
        ("config.json", '{"model_type": "no such"}', "must be a model that transformers can load"),
    ],
)
def test_a_folder_that_is_no_model_is_named(
    copy: Path, name: str, content: str | None, words: str
) -> None:
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_text(content)

    with pytest.raises(InputError, match=f"model: {words}"):
        build(copy)


def test_pickled_weights_alone_are_refused(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()

    with pytest.raises(InputError, match="weights in safetensors files"):
        Pretrained(str(copy))


def test_the_cache_of_the_hub_is_used_without_a_network(bert: Path, offline: Path) -> None:
    repository = offline / "models--someone--small"
    shutil.copytree(bert, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)

    found = Pretrained("someone/small")

    assert found.folder == repository / "snapshots" / ("0" * 40)
    assert found.digest() == Pretrained(str(bert)).digest()


@pytest.mark.usefixtures("offline")
def test_a_model_that_neither_folder_nor_hub_has_is_named() -> None:
    pretrained = Pretrained("someone/large")

    with pytest.raises(InputError, match="folder someone/large, or a model 'someone/large' on the"):
        pretrained.digest()


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(InputError, match=r"no_such_package, got none; .* 'stockpot\[text\]'"):
        check_installed("no_such_package")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bert", True), ("a-b/c_d.e", True), ("./a", False), ("a/b/c", False), ("../a", False)],
)
def test_ids_are_told_from_paths(name: str, expected: bool) -> None:
    assert is_hub_id(name) is expected


def test_building_prints_nothing(bert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(bert)

    assert capfd.readouterr() == ("", "")
