"""Texts in classes: the net, the splits, padding, and data that cannot be right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_transformers import write_bert, write_csv

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.seeding import seeded_generator
from stockpot.workloads import build_workload
from stockpot.workloads.passes import Examples, empty_model, put_weights
from stockpot.workloads.text_classification import TextClassification

SENTENCES = [
    *(f"the {thing} is {very}good" for thing in ("film", "book", "it") for very in ("", "very ")),
    *(f"the {thing} is {very}bad" for thing in ("film", "book", "it") for very in ("", "very ")),
]
HOW = Hyperparameters(
    learning_rate=0.02,
    weight_decay=0.0,
    epochs=20,
    batch_size=4,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=0,
)
Make = Callable[..., TextClassification]


def rows(*texts: str) -> list[dict[str, str]]:
    return [{"text": text, "label": "+" if "good" in text else "-"} for text in texts]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Splits in files, and a shift beside them."""
    write_csv(tmp_path / "data" / "train.csv", rows(*SENTENCES))
    for split, word in (("val", "a"), ("test", "long"), ("tweets", "poor")):
        texts = [f"{word} {text}" for text in (SENTENCES[0], SENTENCES[-1])]
        write_csv(tmp_path / "data" / f"{split}.csv", rows(*texts))
    return tmp_path / "data"


@pytest.fixture
def make(model: Path, data: Path) -> Make:
    def build(**options: Any) -> TextClassification:
        shifts = options.pop("shifts", {"val_shifts": ["tweets"], "test_shifts": []})
        named = {"model": str(model), "data": str(data), **options}
        return TextClassification(0, **shifts, **named)

    return build


def test_the_net_has_the_encoders_weights_and_a_head_from_the_generator(
    make: Make, model: Path
) -> None:
    net = make().build_model(seeded_generator(1))

    state, encoder = net.state_dict(), load_file(model / "model.safetensors")
    assert all(torch.equal(state[f"bert.{name}"], tensor) for name, tensor in encoder.items())
    assert state["classifier.weight"].shape == (2, 16)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_the_net_depends_on_the_generator_alone_and_draws_from_no_other(make: Make) -> None:
    workload = make()
    before = torch.random.get_rng_state()
    first = workload.build_model(seeded_generator(1)).state_dict()
    after = torch.random.get_rng_state()
    torch.rand(3)

    again, other = (workload.build_model(seeded_generator(s)).state_dict() for s in (1, 2))

    assert torch.equal(before, after)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert {n for n in first if not torch.equal(first[n], other[n])} == {"classifier.weight"}


def test_texts_are_padded_to_the_longest_and_classes_are_in_order(make: Make) -> None:
    ids, mask, targets = make().dataset("train").tensors

    assert ids.shape == mask.shape == (12, 7)  # [CLS] the film is very good [SEP]
    assert mask.sum(dim=1).tolist() == make().dataset("train").lengths.tolist() == [6, 7] * 6
    assert ids[mask == 0].unique().tolist() == [1]
    assert targets.tolist() == [0] * 6 + [1] * 6  # "+" comes before "-"


def test_outputs_do_not_depend_on_padding(make: Make) -> None:
    workload = make()
    net, dataset = empty_model(workload, "cpu"), workload.dataset("train")
    alone = [workload.forward(net, tuple(t[[row]] for t in dataset.tensors)) for row in range(12)]

    outputs = Examples(workload, dataset, "cpu").outputs(net)

    torch.testing.assert_close(outputs, torch.cat(alone), rtol=1e-4, atol=1e-6)


def test_fine_tuning_learns_and_ends_with_equal_bits(make: Make) -> None:
    workload = make()

    first, again = (fine_tune(workload, None, HOW, split="train") for _ in range(2))

    net = empty_model(workload, "cpu")
    put_weights(net, first)
    examples = Examples(workload, workload.dataset("train"), "cpu")
    assert torch.equal(examples.outputs(net).argmax(dim=1), examples.targets)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_shift_is_the_file_of_its_name_with_texts_of_its_own(make: Make, data: Path) -> None:
    workload = make()
    shift, digest = workload.shifts()["tweets"], workload.data_digest()
    write_csv(data / "tweets.csv", rows("a good film"))

    changed = make()

    assert not shift.is_copy
    assert shift.split == "val"
    assert len(changed.shifts()["tweets"].dataset()) == 1
    assert changed.shifts()["tweets"].digest != shift.digest
    assert changed.data_digest() == digest  # so nothing is trained again


def test_the_digest_is_of_data_and_model(make: Make, data: Path, model: Path, tmp_path: Path):
    digest = make().data_digest()
    other = shutil.copytree(model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    write_csv(data / "val.csv", rows("long good book", "long bad book"))

    digests = {make(model=str(other)).data_digest(), make().data_digest(), digest}

    assert len(digests) == 3


def test_one_file_is_split_by_the_seed_with_all_classes_in_each_split(
    model: Path, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "all.csv", rows(*SENTENCES))

    workload = TextClassification(3, [], [], model=str(model), data=str(path))

    splits = {name: workload.dataset(name) for name in ("pretrain", "train", "val", "test")}
    assert [len(dataset) for dataset in splits.values()] == [8, 8, 2, 2]
    assert all(len(dataset.tensors[-1].unique()) == 2 for dataset in splits.values())


def test_texts_too_long_are_cut_counted_and_said(
    make: Make, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = "very " * 20
    write_csv(data / "test.csv", rows("good film", f"{long} bad", f"{long} good", "bad it"))

    workload = make()
    dataset = workload.dataset("test")

    assert dataset.lengths.tolist() == [4, 12, 12, 4]
    assert dataset.tensors[0][1, -1] == 3  # [SEP] still ends it
    said = "2 of 4 texts of test are longer than 12 tokens: what follows is cut off"
    assert workload.notes() == [said]
    assert caplog.messages == [said]


def test_max_length_cuts_earlier(make: Make) -> None:
    workload = make(max_length=5)

    assert workload.dataset("train").tensors[0].shape == (12, 5)
    assert [note.partition(" texts")[0] for note in workload.notes()] == [
        *("12 of 12", "2 of 2", "2 of 2", "2 of 2"),
    ]


def test_pairs_have_types(make: Make, data: Path) -> None:
    for path in data.glob("*.csv"):
        lines = path.read_text().splitlines()
        path.write_text(
            "\n".join([f"{lines[0]},claim", *(f"{line},it is a" for line in lines[1:])])
        )

    workload = make(text_pair="claim")

    ids, mask, types, _ = workload.dataset("train").tensors
    assert types[0].tolist() == [0] * 6 + [1] * 4 + [0]  # and padding
    assert ids.shape == mask.shape == types.shape
    assert workload.forward(
        empty_model(workload, "cpu"), workload.dataset("val").tensors
    ).shape == (
        2,
        2,
    )


def test_augmentation_hides_words_and_nothing_else(make: Make) -> None:
    workload = make()
    batch = workload.dataset("train").tensors

    ids, mask, targets = workload.augment(batch, 1.0, seeded_generator(0))

    changed = ids != batch[0]
    assert 0 < changed.sum() < 20  # of 54 words, 15 %
    assert set(ids[changed].tolist()) == {4}  # [MASK]
    assert not changed[batch[0] < 5].any()
    assert mask is batch[1]
    assert targets is batch[2]
    assert workload.augment(batch, 0.0, seeded_generator(0)) is batch


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("train.csv", "text\ngood\n", r"train.csv: must have a column 'label', got \['text'\]"),
        ("val.csv", "texts,label\na,+\n", "val.csv: must have a column 'text'.*did you mean"),
        ("val.csv", "text,label\na film,+\nan it,*\n", "unknown class of 'label' at .*val.csv:3.*"),
        (
            "test.csv",
            "text,label\na film,+\n",
            r"test.csv: 'label' must have .*got none of \['-'\]",
        ),
        (
            "val.csv",
            "text,label\nthe film is good,+\nbad,-\n",
            r"val must have no example of train",
        ),
        ("test.csv", "text,label\n,+\nbad,-\n", "test.csv:2: 'text' must have a value"),
        ("train.csv", "text,label\ngood,+\nbad,\n", "train.csv:3: 'label' must have a value"),
        ("train.csv", b"text,label\nK\xf6ln,+\n", "train.csv:2: must be UTF-8, got the byte 0xf6"),
        ("train.csv", "text,label\n", "train.csv: must have rows"),
        (
            "train.csv",
            "text,label\na,+\nit,+\n",
            "'label' must have two classes or more, got '\\+'",
        ),
    ],
)
def test_data_that_cannot_be_right_is_named(
    make: Make, data: Path, file: str, content: str | bytes, words: str
) -> None:
    (data / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(InputError, match=words):
        make().dataset(Path(file).stem)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "nowhere/at/all"}, "nowhere/at/all: must be a folder with a model"),
        ({"data": "./nowhere"}, "nowhere: there must be a folder or file of data"),
        ({"shifts": {"val_shifts": ["tweet"], "test_shifts": []}}, "did you mean 'tweets'"),
        ({"shifts": {"val_shifts": ["tweets"], "test_shifts": ["tweets"]}}, "once, got"),
    ],
)
def test_options_are_checked_when_it_is_built(make: Make, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make(**options)


def test_max_length_beyond_the_models_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match=r"max_length must be at most 12, .* got 13"):
        make(max_length=13).dataset("train")


def test_it_is_built_by_name_and_has_no_other_splits(model: Path, data: Path) -> None:
    options = {"model": str(model), "data": str(data)}

    workload = build_workload("text_classification", seed=0, options=options)

    with pytest.raises(InputError, match="unknown split of the text_classification workload"):
        workload.dataset("validation")
