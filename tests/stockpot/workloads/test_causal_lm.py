"""Language models: next tokens as targets, blocks of plain text, tied weights held once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_transformers import WORDS, write_csv, write_llama
from torch.nn import functional

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.scoring.metrics import metrics_of
from stockpot.seeding import seeded_generator
from stockpot.storage.checkpoints import load_tensors, save_checkpoint
from stockpot.workloads import build_workload
from stockpot.workloads.causal_lm import CausalLanguageModel
from stockpot.workloads.passes import Examples, empty_model, put_weights

TEXTS = ["the film is good", "it is a very long book", "a poor film", "it is bad"]
HOW = Hyperparameters(
    learning_rate=0.01,
    weight_decay=0.0,
    epochs=3,
    batch_size=2,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=0,
)
Make = Callable[..., CausalLanguageModel]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_csv(tmp_path / "train.csv", [{"text": text} for text in TEXTS])
    for split, text in (("val", "it is very good"), ("test", "the book"), ("verse", "good good")):
        write_csv(tmp_path / f"{split}.csv", [{"text": text}])
    return tmp_path


@pytest.fixture
def make(model: Path, data: Path) -> Make:
    def build(shifts: tuple[str, ...] = (), **options: Any) -> CausalLanguageModel:
        named = {"model": str(model), "data": str(data), **options}
        return CausalLanguageModel(0, [], shifts, **named)

    return build


def test_targets_are_the_next_tokens_up_to_the_end_of_text(make: Make) -> None:
    ids, mask, targets = make().dataset("train").tensors

    assert ids.shape == (4, 8)  # [CLS] it is a very long book [SEP]
    assert ids[2, :5].tolist() == [2, 5, 14, 8, 3]  # [CLS] a poor film [SEP]
    assert targets[2].tolist() == [5, 14, 8, 3, -100, -100, -100, -100]
    assert mask[2].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert targets[1, -2:].tolist() == [3, -100]


def test_outputs_are_losses_of_tokens_whatever_the_padding(make: Make) -> None:
    workload = make()
    net, dataset = empty_model(workload, "cpu"), workload.dataset("train")
    examples = Examples(workload, dataset, "cpu")

    outputs, losses = examples.outputs_and_losses(net)

    for row, (ids, mask, targets) in enumerate(zip(*dataset.tensors, strict=True)):
        length = int(mask.sum())
        with torch.no_grad():
            logits = net(input_ids=ids[None, :length]).logits[0, :-1]
        by_hand = functional.cross_entropy(logits, ids[1:length], reduction="none")
        torch.testing.assert_close(outputs[row, : length - 1], by_hand, rtol=1e-4, atol=1e-6)
        assert outputs[row, length - 1 :].eq(0).all()
        assert losses[row].item() == pytest.approx(by_hand.mean().item(), rel=1e-4)
        assert targets[length - 1 :].eq(-100).all()


def test_the_metrics_are_log_likelihood_of_texts_and_perplexity_of_tokens(make: Make) -> None:
    workload = make()
    outputs = torch.tensor([[1.0, 3.0, 0.0], [4.0, 0.0, 0.0]])
    targets = torch.tensor([[5, 3, -100], [3, -100, -100]])

    metrics = metrics_of(workload)

    assert list(metrics) == ["log_likelihood", "perplexity"]
    assert workload.metrics["log_likelihood"](outputs, targets).tolist() == [-2.0, -4.0]
    assert metrics["perplexity"].value(outputs, targets) == pytest.approx(math.exp(8 / 3))


def test_plain_text_is_cut_into_blocks_that_the_seed_divides(model: Path, tmp_path: Path) -> None:
    words = [WORDS[number * number % 11] for number in range(203)]
    (tmp_path / "all.txt").write_text(" ".join(words))

    workload = CausalLanguageModel(
        0, [], [], model=str(model), data=str(tmp_path / "all.txt"), max_length=10
    )

    splits = [workload.dataset(split) for split in ("train", "val", "test")]
    assert sum(len(dataset) for dataset in splits) == 20  # 3 words are left over
    assert {dataset.tensors[0].shape[1] for dataset in splits} == {10}
    assert all(dataset.tensors[1].all() for dataset in splits)
    assert splits[0].tensors[2][:, -1].eq(-100).all()


def test_shifts_are_other_files(make: Make) -> None:
    shift = make(shifts=("verse",)).shifts()["verse"]

    assert (shift.split, shift.is_copy) == ("test", False)
    assert shift.dataset().tensors[0].tolist() == [[2, 10, 10, 3]]


def test_long_texts_are_cut_counted_and_said(make: Make) -> None:
    workload = make(max_length=6)

    assert workload.dataset("train").lengths.tolist() == [6, 6, 5, 5]
    assert workload.notes() == [
        "1 of 4 texts of train are longer than 6 tokens: what follows is cut off"
    ]


def test_tied_weights_are_held_once(make: Make, model: Path, tmp_path: Path) -> None:
    workload = make()
    net = workload.build_model(seeded_generator(0))

    state = net.state_dict()
    save_checkpoint(tmp_path / "net.safetensors", state, {})

    assert "lm_head.weight" not in state
    assert state.keys() == load_file(model / "model.safetensors").keys()
    assert state.keys() == dict(net.named_parameters()).keys()
    assert load_tensors(tmp_path / "net.safetensors").keys() == state.keys()


def test_loaded_weights_are_tied_again(make: Make) -> None:
    net = make().build_model(seeded_generator(0))
    state = {name: torch.ones_like(tensor) for name, tensor in net.state_dict().items()}

    for assign in (False, True):
        net.load_state_dict(state, assign=assign)

        assert net.lm_head.weight is net.model.embed_tokens.weight
        assert net.lm_head.weight.eq(1).all()


def test_untied_weights_are_two(make: Make, tmp_path: Path) -> None:
    model = write_llama(tmp_path / "untied", tied=False)

    state = make(model=str(model)).build_model(seeded_generator(0)).state_dict()

    assert not torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])


def test_fine_tuned_models_merge_and_predict(make: Make) -> None:
    workload = make()
    net = empty_model(workload, "cpu")
    examples = Examples(workload, workload.dataset("train"), "cpu")
    before = examples.loss(examples.outputs(net))

    first, second = (
        fine_tune(workload, None, HOW, split="train", **seeded)
        for seeded in ({}, {"device": "cpu"})
    )
    merged = merge_states([first, second], Recipe("linear", (0.5, 0.5)))
    put_weights(net, merged)

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert examples.loss(examples.outputs(net)) < before


def test_label_smoothing_is_refused(make: Make) -> None:
    workload = make()
    batch = workload.dataset("val").tensors

    with pytest.raises(InputError, match="causal_lm: label_smoothing must be 0"):
        workload.loss(torch.zeros(1, 6), batch, label_smoothing=0.1)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("train.csv", "words\na\n", r"train.csv: must have a column 'text', got \['words'\]"),
        ("val.csv", "text\nthe film is good\n", "val must have no example of train, got 1: .*val"),
        ("test.csv", b"text\n\xff\n", "test.csv:2: must be UTF-8"),
    ],
)
def test_data_that_cannot_be_right_is_named(
    make: Make, data: Path, file: str, content: str | bytes, words: str
) -> None:
    (data / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(InputError, match=words):
        make().dataset("train")


def test_a_plain_text_that_fills_no_block_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("a good book")

    workload = CausalLanguageModel(0, [], [], model=str(model), data=str(tmp_path / "all.txt"))

    with pytest.raises(InputError, match=r"all.txt: must fill a block of .*\(16\) tokens, got 3"):
        workload.dataset("train")


def test_it_is_built_by_name(model: Path, data: Path) -> None:
    options = {"model": str(model), "data": str(data)}

    assert build_workload("causal_lm", seed=0, options=options).task == "language_model"
