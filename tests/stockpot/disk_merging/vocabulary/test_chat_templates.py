"""The chat template of a merged model: given, in a file, or that of most models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from merge_files import language_model, read_job, save_model

from stockpot.errors import InputError

ONE, TWO = "{{ messages }}", "{% for m in messages %}{{ m }}{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Models whose templates stand in each place that transformers knows."""
    for name in ("a", "b", "c"):
        save_model(tmp_path / name, language_model(0))
    _config(tmp_path / "a", chat_template=ONE, unk_token="?")
    _config(tmp_path / "b", chat_template=[{"name": "default", "template": TWO + "\n"}])
    (tmp_path / "c" / "chat_template.jinja").write_text(TWO)
    (tmp_path / "own.jinja").write_text(ONE + TWO)
    return tmp_path


def _config(folder: Path, **content: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("template", "models", "expected"),
    [
        ("auto", "[a, b, c]", TWO),
        ("auto", "[a, b]", ONE),
        ("'{{ x }}'", "[a, b]", "{{ x }}"),
        ("own.jinja", "[a, b]", ONE + TWO),
    ],
)
@pytest.mark.parametrize("form", ["method: linear", "merge_method: linear"])
def test_the_template_is_written_where_old_and_new_readers_look(
    folder: Path, template: str, models: str, expected: str, form: str
) -> None:
    listed = models.strip("[]").split(", ")
    if form.startswith("merge"):
        models = "[" + ", ".join(f"{{model: {n}, parameters: {{weight: 1}}}}" for n in listed) + "]"
    job = read_job(folder, f"{form}\nmodels: {models}\nchat_template: {template}")
    job.check()
    job.run(lambda _bytes: None)

    assert (folder / "merged" / "chat_template.jinja").read_text() == expected
    config = json.loads((folder / "merged" / "tokenizer_config.json").read_text())
    assert config == {"chat_template": expected, "unk_token": "?"}


def test_without_any_template_auto_changes_nothing_and_says_so(folder: Path) -> None:
    _config(folder / "a", unk_token="?")
    job = read_job(folder, "method: linear\nmodels: [a]\nchat_template: auto")

    assert "chat_template: auto has no effect: no model has one" in job.notes


def test_what_is_no_template_is_refused(folder: Path) -> None:
    job = read_job(folder, "method: linear\nmodels: [a, b]\nchat_template: chatml")

    with pytest.raises(InputError, match=r"chat_template: must be auto, .*, got 'chatml'"):
        job.check()
