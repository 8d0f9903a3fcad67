"""Pairs of responses: what their outputs are, and DPO on a tiny Llama, also towards a soup."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_text_workloads import llama_workload
from tiny_transformers import write_llama
from torch import Tensor

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.scoring.metrics import metrics_of
from stockpot.workloads import build_workload
from stockpot.workloads.batches import take
from stockpot.workloads.passes import Examples, empty_model
from stockpot.workloads.preferences import Preferences

PAIRS = [
    {"prompt": f"{which} {kind} is", "chosen": good, "rejected": bad}
    for which in ("the", "a", "the long", "a very long")
    for kind in ("film", "book")
    for good, bad in (("good", "bad"), ("very good", "poor"))
]
HOW = Hyperparameters(
    learning_rate=0.01,
    weight_decay=0.0,
    epochs=4,
    batch_size=4,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=0,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


def _write(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def workload(model: Path, tmp_path: Path) -> Preferences:
    return _built(model, _write(tmp_path, PAIRS))


def _built(model: Path, data: Path, **options: Any) -> Preferences:
    named = {"model": str(model), "data": str(data), **options}
    built = build_workload("preferences", seed=0, options=named)
    assert isinstance(built, Preferences)
    return built


def _start(workload: Preferences) -> dict[str, Tensor]:
    return {name: one.clone() for name, one in empty_model(workload, "cpu").state_dict().items()}


def test_outputs_are_log_probabilities_of_the_responses_alone(workload: Preferences) -> None:
    net = empty_model(workload, "cpu")
    ids, mask, is_response, preferred = workload.dataset("train").tensors
    outputs = Examples(workload, workload.dataset("train"), "cpu").outputs(net)

    for row in range(len(ids)):
        for place in range(2):
            tokens = ids[row, place][mask[row, place] == 1]
            log_p = net(tokens.unsqueeze(0)).logits[0].log_softmax(dim=-1).detach()
            counted = [
                float(log_p[n - 1, token])
                for n, token in enumerate(tokens.tolist())
                if is_response[row, place, n]
            ]
            assert outputs[row, place].item() == pytest.approx(sum(counted), abs=1e-4)
    assert {*preferred.tolist()} == {0, 1}
    assert next(iter(metrics_of(workload))) == "accuracy"


def test_the_preferred_response_ends_and_the_prompt_does_not_count(
    model: Path, tmp_path: Path
) -> None:
    row = {"prompt": "the film is", "chosen": "good", "rejected": "very bad"}
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split, word in (("train", "long"), ("val", "fine"), ("test", "poor")):
        text = json.dumps(row | {"prompt": f"the {word} film is"})
        (folder / f"{split}.jsonl").write_text(f"{text}\n", encoding="utf-8")

    ids, mask, is_response, preferred = _built(model, folder).dataset("train").tensors

    assert preferred.tolist() == [0]
    assert mask[0].sum(dim=1).tolist() == [7, 8]  # [CLS] the long film is good [SEP]
    assert is_response[0].sum(dim=1).tolist() == [2, 3]
    assert ids[0, 0, 5:7].tolist() == [10, 3]  # good [SEP]


def test_plain_training_is_supervised_fine_tuning_on_preferred_responses(
    workload: Preferences,
) -> None:
    batch = take(workload.dataset("train"), torch.arange(4))
    outputs = torch.tensor([[-2.0, -6.0]] * 4)

    losses = workload.loss(outputs, batch)

    lengths = batch[2].sum(dim=-1)
    expected = [
        -outputs[row, best] / lengths[row, best] for row, best in enumerate(batch[-1].tolist())
    ]
    torch.testing.assert_close(losses, torch.stack(expected))
    with pytest.raises(InputError, match="preferences: label_smoothing must be 0"):
        workload.loss(outputs, batch, label_smoothing=0.1)


def test_dpo_prefers_the_preferred_and_a_larger_beta_stays_nearer(workload: Preferences) -> None:
    start, data = _start(workload), workload.dataset("train")
    how = replace(HOW, anchor="base", anchor_loss="dpo", anchor_weight=0.5)

    tuned = fine_tune(workload, start, how, split="train")
    closer = fine_tune(workload, start, replace(how, anchor_weight=50.0), split="train")

    nets = [empty_model(workload, "cpu") for _ in range(3)]
    for net, weights in zip(nets, (start, tuned, closer), strict=True):
        net.load_state_dict(weights)
    before, after, near = (Examples(workload, data, "cpu").outputs(net) for net in nets)
    best = data.tensors[-1].unsqueeze(1)
    margins = [(one - before).gather(1, best) - (one - before).gather(1, 1 - best)
               for one in (after, near)]  # fmt: skip
    assert bool((margins[0] > 0).all())
    assert 0 < float(margins[1].mean()) < float(margins[0].mean())


def test_dpo_to_a_soup_of_supervised_runs(workload: Preferences) -> None:
    start = _start(workload)
    sft = [fine_tune(workload, start, replace(HOW, seed=seed), split="train") for seed in (1, 2)]
    soup = {name: (sft[0][name] + sft[1][name]) / 2 for name in start}
    how = replace(HOW, epochs=1, anchor="soup", anchor_loss="dpo")

    tuned = fine_tune(workload, sft[0], how, split="train", anchor=soup)
    by_one = fine_tune(workload, sft[0], how, split="train", anchor=sft[0])

    assert not all(torch.equal(tuned[name], by_one[name]) for name in start)


@pytest.mark.parametrize("loss", ["kl", "distil"])
def test_a_language_model_is_held_by_the_divergence_of_its_next_tokens(
    tmp_path: Path, loss: str
) -> None:
    workload = llama_workload(tmp_path)
    start = {n: one.clone() for n, one in empty_model(workload, "cpu").state_dict().items()}
    how = replace(HOW, anchor="base", anchor_loss=loss)

    free, barely, firmly = (
        fine_tune(workload, start, replace(how, anchor_weight=weight), split="train")
        for weight in (0.0, 1e-9, 100.0)
    )

    plain = fine_tune(workload, start, HOW, split="train")
    examples = Examples(workload, workload.dataset("train"), "cpu")
    outputs = []
    for weights in (start, free, firmly):
        net = empty_model(workload, "cpu")
        net.load_state_dict(weights)
        outputs.append(examples.outputs(net))
    moved = [float((one - outputs[0]).abs().mean()) for one in outputs[1:]]
    assert all(torch.equal(free[name], plain[name]) for name in start)
    for name in start:
        torch.testing.assert_close(barely[name], plain[name], atol=1e-4, rtol=1e-3)
    assert moved[1] < 0.2 * moved[0]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "the", "chosen": "bad", "rejected": "bad"}, "must differ, got 'bad' twice"),
        ({"prompt": "the " * 15, "chosen": "bad", "rejected": "good"}, "must have tokens"),
        ({"prompt": "the", "chosen": "bad", "reject": "good"}, "rejected"),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused(
    model: Path, tmp_path: Path, row: dict[str, str], expected: str
) -> None:
    rows = [row] * 3 if "reject" in row else [*PAIRS, row]
    workload = _built(model, _write(tmp_path, rows))
    with pytest.raises(InputError, match=expected):
        _open_all(workload)


def _open_all(workload: Preferences) -> None:
    for split in ("train", "val", "test"):
        workload.dataset(split)
