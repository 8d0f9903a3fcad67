"""Findings about models before they are merged, from their headers and from their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from merge_files import save_model
from safetensors.torch import save_file
from torch import Tensor

from stockpot.disk_merging.inspection import compare_headers, compare_weights
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.sources import Source

Saved = Callable[[Mapping[str, Tensor]], Source]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    def save(state: Mapping[str, Tensor]) -> Source:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
        save_file(dict(state), path)
        return open_source(path)

    return save


def weights(seed: int = 0, vocabulary: int = 8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "embed.weight": torch.randn(vocabulary, 4, generator=generator),
        "layers.0.w": torch.randn(4, 4, generator=generator),
        "lm_head.weight": torch.randn(vocabulary, 4, generator=generator),
    }


def test_equal_headers_are_said_to_be_equal(saved: Saved) -> None:
    findings = compare_headers([saved(weights(0)), saved(weights(1))])

    assert [(f.text, f.is_obstacle) for f in findings] == [
        ("all names, shapes and dtypes are equal", False)
    ]


def test_a_lacking_head_is_an_obstacle_unless_the_config_ties_it(
    saved: Saved, tmp_path: Path
) -> None:
    unsaid = {"model.embed_tokens.weight": torch.ones(2, 2)}
    untied = unsaid | {"lm_head.weight": torch.ones(2, 2)}
    (tmp_path / "models").mkdir()
    save_model(tmp_path / "models" / "tied", unsaid, tie_word_embeddings=True)

    (tied,) = compare_headers([saved(untied), open_source(tmp_path / "models" / "tied")])
    (lacking,) = compare_headers([saved(unsaid), saved(untied)])

    assert not tied.is_obstacle
    assert tied.text == (
        "model 1 ties lm_head.weight, which model 0 stores: merged as if it were stored"
    )
    assert lacking.is_obstacle
    assert lacking.text == (
        "model 0 lacks lm_head.weight, which model 1 has; if it is tied, its config.json must say "
        "so"
    )


def test_tensors_that_the_first_lacks_are_named(saved: Saved) -> None:
    more = weights() | {f"layers.{n}.w": torch.zeros(1) for n in range(1, 6)}

    (finding,) = compare_headers([saved(weights()), saved(more)])

    assert finding.text == (
        "model 0 lacks layers.1.w, layers.2.w, layers.3.w and 2 more, which model 1 has"
    )


def test_vocabularies_of_other_sizes_are_told_from_other_shapes(saved: Saved) -> None:
    other = weights(vocabulary=9) | {"layers.0.w": torch.zeros(5, 4)}

    texts = [finding.text for finding in compare_headers([saved(weights()), saved(other)])]

    assert texts == [
        "vocabularies or classes differ: embed.weight has shape (8, 4) in model 0, (9, 4) in "
        "model 1",
        "layers.0.w has shape (4, 4) in model 0, (5, 4) in model 1",
        "vocabularies or classes differ: lm_head.weight has shape (8, 4) in model 0, (9, 4) in "
        "model 1",
    ]


def test_other_dtypes_are_no_obstacle(saved: Saved) -> None:
    half = {name: tensor.half() for name, tensor in weights().items()}

    (finding,) = compare_headers([saved(weights()), saved(half)])

    assert (
        finding.text
        == "torch.float32 in model 0 is torch.float16 in model 1: merged in the wider dtype"
    )
    assert not finding.is_obstacle


def test_batch_norm_is_mentioned(saved: Saved) -> None:
    state = weights() | {"bn.running_var": torch.ones(4), "bn.running_mean": torch.zeros(4)}

    (finding,) = compare_headers([saved(state)])

    assert finding.text.startswith("1 BatchNorm layers: their statistics are pooled")


def test_weights_are_compared_as_task_vectors_where_there_is_a_base(saved: Saved) -> None:
    base = {"w": torch.tensor([1.0, 1.0, 1.0, 1.0])}
    one = {"w": torch.tensor([4.0, 1.0, 1.0, 5.0])}  # task vector (3, 0, 0, 4)
    other = {"w": torch.tensor([4.0, 1.0, 1.0, -3.0])}  # task vector (3, 0, 0, -4)

    compared = compare_weights([saved(one), saved(other)], saved(base))

    assert compared.norms == pytest.approx([5.0, 5.0])
    assert compared.cosines[0][1] == pytest.approx((9 - 16) / 25)
    assert compared.sign_agreement == [[1.0, 0.75], [0.75, 1.0]]
    assert compared.findings == []


def test_equal_models_are_found(saved: Saved) -> None:
    sources = [saved(weights(0)), saved(weights(1)), saved(weights(0))]

    findings = compare_weights(sources).findings

    assert findings[0].text == "equal models: model 0, model 2; their weights count 2 times"


def test_a_head_from_another_start_is_found_and_a_fine_tuned_one_is_not(saved: Saved) -> None:
    state = weights()
    tuned = {name: tensor + 0.01 for name, tensor in state.items()}
    restarted = tuned | {"lm_head.weight": weights(5)["lm_head.weight"]}

    of_tuned = compare_weights([saved(state), saved(tuned)]).findings
    (of_restarted,) = compare_weights([saved(state), saved(restarted)]).findings

    assert of_tuned == []
    assert of_restarted.is_obstacle
    assert of_restarted.text.startswith("lm_head.weight: cosine between models as low as ")
