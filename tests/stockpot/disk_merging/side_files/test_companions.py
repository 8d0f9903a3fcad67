"""The files next to the weights: which are copied, which are not, and what differs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from merge_files import read_job, save_model

from stockpot.disk_merging.side_files.companions import find_companions
from stockpot.errors import InputError

LINEAR = "method: linear\nmodels: [a, b]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        save_model(tmp_path / name, {"w": torch.ones(2, 2)}, model_type="x")
    return tmp_path


def _write(path: Path, content: object = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _notes(folder: Path, text: str = LINEAR) -> list[str]:
    job = read_job(folder, text)
    job.check()
    return [note for note in job.notes if "equal" not in note]


def test_all_that_is_not_weights_is_copied_with_its_folders(folder: Path) -> None:
    taken = [
        "LICENSE",
        "added_tokens.json",
        "additional_chat_templates/tool.jinja",
        "chat_template.jinja",
        "generation_config.json",
        "modeling_x.py",
        "preprocessor_config.json",
        "speaker_embeddings/voice.npy",
        "spiece.model",
        "tokenizer.json",
        "vocab.txt",
    ]
    left = [
        ".gitattributes",
        ".cache/huggingface/download/w.lock",
        "README.md",
        "checkpoint-500/config.json",
        "consolidated.00.pth",
        "eval/scores.csv",
        "events.out.tfevents.17.host",
        "export/model.gguf",
        "export/settings.json",
        "flax_model.msgpack",
        "model.safetensors.index.json.old.index.json",
        "onnx/model_quantized.onnx",
        "optimizer.pt",
        "original/params.json",
        "quantized.engine/part",
        "pytorch_model.bin",
        "rng_state_0.pth",
        "rust_model.ot",
        "scheduler.pt",
        "tf_model.h5",
        "trainer_state.json",
        "training_args.bin",
        "x-Q4_K_M.gguf",
    ]
    for name in [*taken, *left]:
        _write(folder / "a" / name, name)
        _write(folder / "b" / name, name)
    job = read_job(folder, LINEAR)
    job.check()
    job.run(lambda _bytes: None)

    files = [p.relative_to(job.place).as_posix() for p in job.place.rglob("*") if p.is_file()]
    own = ["README.md", "config.json", "model.safetensors"]
    assert sorted(files) == sorted([*taken, *own])
    assert all((job.place / name).read_text() == name for name in taken)
    assert [note for note in job.notes if note.startswith("not copied")] == [
        "not copied from a: checkpoint-500, eval, events.out.tfevents.17.host and 5 more "
        "(of its training)",
        "not copied from a: consolidated.00.pth, export, flax_model.msgpack and 7 more "
        "(weights in another format, or of another model)",
    ]


def test_the_files_of_a_snapshot_in_the_hub_s_cache_are_copied_not_linked(folder: Path) -> None:
    home = folder / "hub" / "models--org--name"
    (home / "snapshots").mkdir(parents=True)
    (folder / "a").rename(home / "snapshots" / "0f3a")
    blob = _write(home / "blobs" / "9c", "{}")
    (home / "snapshots" / "0f3a" / "tokenizer.json").symlink_to("../../blobs/9c")
    job = read_job(folder, f"method: linear\nmodels: [{home}/snapshots/0f3a, b]")
    job.check()

    assert "tokenizer.json: copied from org/name; not in b" in job.notes
    job.run(lambda _bytes: None)
    copy = job.place / "tokenizer.json"
    assert copy.read_text() == "{}"
    assert not copy.is_symlink()
    assert blob.is_file()


def _link_outside(model: Path) -> None:
    (model / "tokenizer.json").symlink_to(_write(model.parent / "secret"))


def _link_to_nothing(model: Path) -> None:
    (model / "vocab.txt").symlink_to("missing")


def _link_to_itself(model: Path) -> None:
    (model / "deep").mkdir()
    (model / "deep" / "again").symlink_to(model / "deep")


def _pipe(model: Path) -> None:
    os.mkfifo(model / "vocab.txt")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_link_outside, r"a/tokenizer.json: is a link to .*/secret, outside the model; replace it"),
        (_link_to_nothing, r"a/vocab.txt: is a link to nothing"),
        (_link_to_itself, r"a/deep/again: is a link to a folder that it is in"),
        (_pipe, r"a/vocab.txt: is neither a file nor a folder"),
    ],
)
def test_a_file_that_cannot_be_copied_is_refused_before_the_merge(
    folder: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder / "a")

    with pytest.raises(InputError, match=message):
        read_job(folder, LINEAR).check()


def test_such_files_of_models_that_nothing_is_copied_from_are_no_obstacle(folder: Path) -> None:
    _link_to_nothing(folder / "b")
    _link_to_itself(folder / "b")

    assert _notes(folder) == []


def test_a_link_within_the_model_is_followed(folder: Path) -> None:
    _write(folder / "a" / "chat.jinja", "hello")
    (folder / "a" / "chat_template.jinja").symlink_to("chat.jinja")

    assert set(find_companions(folder / "a").files) == {
        "chat.jinja",
        "chat_template.jinja",
        "config.json",
    }


def test_differences_are_named_by_file_field_and_model(folder: Path) -> None:
    template = "{% for message in messages %}" * 3
    _write(folder / "a" / "generation_config.json", {"temperature": 0.7, "transformers_version": 1})
    _write(folder / "b" / "generation_config.json", {"temperature": 1.0, "top_p": 0.9})
    _write(folder / "a" / "tokenizer_config.json", {"pad_token": "</s>", "chat_template": template})
    _write(folder / "b" / "tokenizer_config.json", {"chat_template": template[1:]})
    _write(folder / "a" / "vocab.txt", "one")
    _write(folder / "b" / "vocab.txt", "two")
    _write(folder / "a" / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
    _write(folder / "b" / "1_Pooling" / "config.json", '{\n"pooling_mode":   "mean"}')
    _write(folder / "b" / "added_tokens.json", {})

    assert _notes(folder) == [
        "generation_config.json: temperature is 1.0 in b; copied: 0.7 of a",
        "generation_config.json: top_p is 0.9 in b; copied: not set of a",
        'tokenizer_config.json: pad_token is not set in b; copied: "</s>" of a',
        "tokenizer_config.json: chat_template differs in b; that of a is copied",
        "vocab.txt: differs in b; that of a is copied",
        "added_tokens.json: only in b, and not copied",
    ]


def test_an_adapter_is_compared_in_the_files_that_it_has(folder: Path) -> None:
    _write(folder / "a" / "vocab.txt", "one")
    _write(folder / "a" / "chat_template.jinja", "one")
    lora = save_adapter(folder / "lora", factors("w", randn(2, 2), randn(2, 2)))
    save_model(folder / "base", {"w.weight": torch.ones(2, 2)}, model_type="x")
    _write(folder / "base" / "vocab.txt", "one")
    _write(folder / "base" / "merges.txt", "one")
    _write(lora / "vocab.txt", "two")

    assert _notes(folder, "method: task_arithmetic\nmodels: [lora]\nbase: base") == [
        "vocab.txt: differs in lora; that of base is copied"
    ]


def test_nothing_is_copied_next_to_a_single_file(folder: Path) -> None:
    _link_outside(folder / "a")
    job = read_job(folder, LINEAR, "merged.safetensors")

    job.check()

    assert not any("copied" in note for note in job.notes)


def test_names_that_a_terminal_cannot_show_are_escaped(folder: Path) -> None:
    name = os.fsdecode(b"\xff\x1b[2J.json")
    _write(folder / "b" / name)

    (note,) = _notes(folder)

    assert re.fullmatch(r"\\udcff\\x1b\[2J.json: only in b, and not copied", note)


def test_a_model_to_copy_from_that_does_not_exist_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"config_from: .*/c: no such folder"):
        read_job(folder, f"{LINEAR}\nconfig_from: c").check()
