"""The card of a merged model: what the Hub reads, and a merge file that can be run again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from adapter_folders import factors, randn, save_adapter
from merge_files import language_model, merge, read_job, save_model

from stockpot.disk_merging.adapters.adapter_job import AdapterMergeJob
from stockpot.disk_merging.side_files.card_metadata import front_matter, licences
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.sources import Source


def _model(path: Path, card: str | None = None, **config: Any) -> Source:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, {"w.weight": torch.ones(2, 2)}, **config)
    if card is not None:
        (path / "README.md").write_text(f"---\n{card}\n---\n\n# Title\n---\nlicense: none\n")
    return open_source(path)


def test_base_models_are_named_as_on_the_hub(tmp_path: Path) -> None:
    cached = _model(tmp_path / "models--org--base" / "snapshots" / "0f")
    stated = _model(tmp_path / "tuned", _name_or_path="org/parent")
    local = _model(tmp_path / "other", _name_or_path="./runs/1")
    again = _model(tmp_path / "again", _name_or_path="org/base")
    told = _model(tmp_path / "told", "base_model: [org/told, ./runs/2, 3]")

    found = front_matter([local, stated, cached, again, told], None)

    assert found["base_model"] == ["org/parent", "org/base", "org/told"]
    assert found["base_model_relation"] == "merge"
    assert "base_model_relation" not in front_matter([local], None)


@pytest.mark.parametrize(
    ("cards", "expected", "is_said"),
    [
        (["license: mit", "license: mit"], {"license": "mit"}, False),
        (
            ["license: other\nlicense_name: gemma\nlicense_link: LICENSE"] * 2,
            {"license": "other", "license_name": "gemma", "license_link": "LICENSE"},
            False,
        ),
        (["license: mit", "license: apache-2.0"], {"license": "other"}, True),
        (["license: mit", "language: en"], {}, True),
        (["license: mit", None], {}, True),
        ([None, "license: [: broken"], {}, False),
    ],
)
def test_a_licence_is_stated_if_all_models_state_it(
    tmp_path: Path, cards: list[str | None], expected: dict[str, str], is_said: bool
) -> None:
    models = [_model(tmp_path / str(number), card) for number, card in enumerate(cards)]

    found = front_matter(models, None)

    assert {name: found[name] for name in found if name.startswith("license")} == expected
    assert bool(licences(models)) == is_said


def test_a_pipe_in_place_of_a_card_is_not_read(tmp_path: Path) -> None:
    model = _model(tmp_path / "a")
    os.mkfifo(tmp_path / "a" / "README.md")

    assert front_matter([model], None) == {"tags": ["merge", "stockpot"]}


def test_library_and_task_follow_the_model_whose_files_are_copied(tmp_path: Path) -> None:
    model = _model(tmp_path / "a", model_type="llama", architectures=["LlamaForCausalLM"])
    card = "pipeline_tag: summarization\nlibrary_name: timm\nlanguage: [de, en]"
    other = _model(tmp_path / "b", card)

    tags = {"tags": ["merge", "stockpot"]}
    assert front_matter([model], tmp_path / "a") == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **tags,
    }
    assert front_matter([other], tmp_path / "b") == {
        "language": ["de", "en"],
        "library_name": "timm",
        "pipeline_tag": "summarization",
        **tags,
    }
    (tmp_path / "b" / "modules.json").write_text("[]")
    assert front_matter([model], tmp_path / "b") == {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        **tags,
    }


def test_the_merge_file_in_the_card_makes_the_same_model(tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        save_model(tmp_path / name, language_model(seed))
    text = (
        "method: dare_ties\nbase: c\nseed: 3\ndtype: bfloat16\noptions: {density: 0.5}\n"
        "models: [a, {path: b, coefficient: [{filter: mlp, value: 0.3}, {value: 2}]}]\n"
    )
    first = merge(tmp_path, text)
    card = (tmp_path / "merged" / "README.md").read_text()
    (_, block, _) = card.replace("```yaml", "```").split("```")

    again = merge(tmp_path, block, "again")

    assert yaml.safe_load(block)["seed"] == 3
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


def test_the_card_of_a_merged_adapter_names_its_base(tmp_path: Path) -> None:
    for name in "ab":
        save_adapter(
            tmp_path / name,
            factors("w", randn(2, 2), randn(2, 2)),
            base_model_name_or_path="org/base",
        )
    text = "method: linear\noutput: adapter\nmodels: [a, b]"
    merge_file = read_job(tmp_path, text)
    AdapterMergeJob(merge_file.file, tmp_path, tmp_path / "merged").run()

    card = (tmp_path / "merged" / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata == {
        "base_model": ["org/base"],
        "base_model_relation": "adapter",
        "library_name": "peft",
        "tags": ["merge", "stockpot", "lora"],
    }
    assert "output: adapter" in card
