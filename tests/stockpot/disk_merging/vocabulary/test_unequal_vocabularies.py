"""Merges of models whose tokenizers have other tokens, with rows computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_files import merge, read_job, save_model
from safetensors.torch import load_file, save_file
from word_tokenizers import EMBEDDING, HEAD, write_model, write_tokenizer

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.vocabulary.aligned import AlignedSource
from stockpot.errors import InputError

pytest.importorskip("transformers")

ALL = "method: linear\nmodels: [a, b, c]\n"
ON_BASE = "method: task_arithmetic\nmodels: [a, b]\nbase: c\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three models; each token's row is a number, so that a merge is a sum in the head."""
    write_model(tmp_path / "a", ["?", "x", "y"], [1, 2, 3], added=["<s>"], vocab_size=3)
    write_model(tmp_path / "b", ["?", "y", "z", "x"], [10, 20, 30, 40], eos_token_id=2)
    write_model(tmp_path / "c", ["y", "w", "?"], [100, 200, 300, 400, 500], added=["<s>"])
    return tmp_path


def rows_of(folder: Path, text: str) -> dict[str, float]:
    """Merge; return the merged row of each token, by AutoTokenizer and the first column."""
    merged = merge(folder, text)[EMBEDDING]
    assert torch.allclose(merged[:, 1], 10 * merged[:, 0])
    column = merged[:, 0].tolist()
    tokens = vocabulary(folder / "merged")
    padding = {f"#{n}": v for n, v in enumerate(column) if n not in tokens.values()}
    return {token: column[number] for token, number in tokens.items()} | padding


def vocabulary(folder: Path) -> dict[str, int]:
    from transformers import AutoTokenizer

    found: dict[str, int] = AutoTokenizer.from_pretrained(folder).get_vocab()
    return found


def test_a_union_takes_lacking_rows_from_the_models_that_have_them(folder: Path) -> None:
    rows = rows_of(folder, ALL + "tokenizer: {source: union}")

    assert rows == pytest.approx(
        {
            "?": (1 + 10 + 300) / 3,
            "x": (2 + 40 + (2 + 40) / 2) / 3,
            "y": (3 + 20 + 100) / 3,
            "z": 30,
            "w": 200,
            # The tokenizer of a has it, and no row for it.
            "<s>": 400,
        }
    )


def test_ids_of_a_union_are_the_first_tokenizers_then_words_then_added_tokens(folder: Path) -> None:
    merge(folder, ALL + "tokenizer: {source: union}")

    assert vocabulary(folder / "merged") == {"?": 0, "x": 1, "y": 2, "<s>": 3, "z": 4, "w": 5}
    config = json.loads((folder / "merged" / "config.json").read_text())
    assert config["vocab_size"] == 6


def test_a_model_takes_the_rows_of_the_base_for_tokens_that_it_lacks(folder: Path) -> None:
    rows = rows_of(folder, ON_BASE + "tokenizer: {source: union}")

    assert rows == pytest.approx(
        {
            "?": 300 + (1 - 300) + (10 - 300),
            "y": 100 + (3 - 100) + (20 - 100),
            "w": 200,
            "<s>": 400,
            # The base takes the mean of the others.
            "x": 21 + (2 - 21) + (40 - 21),
            "z": 30,
        }
    )


def test_without_a_base_the_model_of_the_configuration_is_preferred(folder: Path) -> None:
    rows = rows_of(folder, ALL + "config_from: b\ntokenizer: {source: base}")

    assert rows == pytest.approx(
        {"?": (1 + 10 + 300) / 3, "y": 41, "z": 30, "x": (2 + 40 + 40) / 3}
    )


@pytest.mark.parametrize("source", ["b", "model:b"])
def test_the_tokenizer_of_a_model_reorders_the_rows_of_the_others(
    folder: Path, source: str
) -> None:
    rows = rows_of(folder, f"{ALL}tokenizer: {{source: '{source}'}}")

    assert rows == pytest.approx({"?": 311 / 3, "y": 41, "z": 30, "x": (2 + 40 + 21) / 3})
    merged, own = folder / "merged", folder / "b"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (merged / name).read_bytes() == (own / name).read_bytes()


def test_padding_is_the_mean_of_the_tokens(folder: Path) -> None:
    rows = rows_of(folder, ALL + "tokenizer: {source: b, pad_to_multiple_of: 3}")

    tokens = [311 / 3, 41, 30, 21]
    assert [rows["#4"], rows["#5"]] == pytest.approx([sum(tokens) / 4] * 2)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("{x: {source: a}}", {"x": (2 + 40 + 2) / 3}),
        ("{x: {source: a, force: true}}", {"x": 2}),
        ("{new: {source: {kind: model_token, model: b, token: z}}}", {"new": 30}),
        ("{new: {source: {kind: model_token, model: c, token_id: 4}}}", {"new": 500}),
        ("{x: {source: {kind: zero}}}", {"x": 14}),
        ("{x: {source: {kind: zero}, force: true}}", {"x": 0}),
        ("{new: {}}", {"new": 0}),
    ],
)
def test_the_rows_of_single_tokens_have_the_given_sources(
    folder: Path, tokens: str, expected: dict[str, float]
) -> None:
    rows = rows_of(folder, f"{ALL}tokenizer: {{tokens: {tokens}}}")

    assert rows == pytest.approx(rows | expected)
    assert expected.keys() <= rows.keys()


def test_heads_and_their_biases_are_reordered_and_a_tied_head_contributes_its_embedding(
    tmp_path: Path,
) -> None:
    def tensors(*rows: float) -> dict[str, torch.Tensor]:
        values = torch.tensor(rows, dtype=torch.float32)
        return {"lm_head.bias": values, "final_logits_bias": values.clone().unsqueeze(0)}

    write_model(tmp_path / "a", ["?", "x"], [1, 2], others=tensors(3, 4), tie_word_embeddings=True)
    head = {HEAD: torch.tensor([[7.0, 70.0], [8.0, 80.0], [9.0, 90.0]])}
    write_model(tmp_path / "b", ["x", "z", "?"], [5, 6, 7], others=head | tensors(10, 20, 30))

    merged = merge(tmp_path, "method: linear\nmodels: [a, b]\ntokenizer: {source: union}")

    assert vocabulary(tmp_path / "merged") == {"?": 0, "x": 1, "z": 2}
    assert merged[EMBEDDING][:, 0].tolist() == [4, 3.5, 6]
    assert merged[HEAD][:, 0].tolist() == [5, 4.5, 8]
    assert merged["lm_head.bias"].tolist() == [16.5, 7, 20]
    assert merged["final_logits_bias"].tolist() == [[16.5, 7, 20]]


def test_the_head_of_a_classifier_keeps_its_rows(tmp_path: Path) -> None:
    classes = {"head.weight": torch.tensor([[1.0], [2.0], [3.0]])}
    write_model(tmp_path / "a", ["?", "x"], [1, 2], others=classes)
    write_model(tmp_path / "b", ["x", "?"], [3, 4], others=classes)

    merged = merge(tmp_path, "method: linear\nmodels: [a, b]\ntokenizer: {source: union}")

    assert torch.equal(merged["head.weight"], classes["head.weight"])
    assert merged[EMBEDDING][:, 0].tolist() == [2.5, 2.5]


def test_slices_have_the_rows_of_their_own_models(folder: Path) -> None:
    layers = "layers: [{path: a, range: [0, 1]}, {path: b, range: [0, 1]}]"
    text = f"method: passthrough\n{layers}\ntokenizer: {{source: union}}"

    assert rows_of(folder, text) == {"?": 1, "x": 2, "y": 3, "<s>": 0, "z": 0}


def test_equal_vocabularies_are_read_as_they_are(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / name, ["?", "x"], [1, 2])
    job = read_job(tmp_path, "method: linear\nmodels: [a, b]\ntokenizer: {source: union}")

    assert not any(isinstance(o.source, AlignedSource) for plan in job.plans for o in plan.origins)


def test_any_run_of_a_view_is_that_part_of_the_whole(folder: Path) -> None:
    job = read_job(folder, ALL + "tokenizer: {pad_to_multiple_of: 4}")
    plan = next(plan for plan in job.plans if plan.name == EMBEDDING)

    for origin in plan.origins:
        whole = origin.read().flatten()
        for first in range(len(whole) + 1):
            for last in range(first, len(whole) + 1):
                assert torch.equal(
                    origin.source.read_run(EMBEDDING, first, last), whole[first:last]
                )


def test_rows_keep_their_dtype_and_means_are_rounded_once(tmp_path: Path) -> None:
    for name, words, rows in (("a", "?x", (1, 257)), ("b", "?x", (1, 258)), ("c", "?", (1,))):
        state = {EMBEDDING: torch.tensor([[float(row)] for row in rows], dtype=torch.bfloat16)}
        save_model(tmp_path / name, state)
        write_tokenizer(tmp_path / name, list(words))

    merged = merge(tmp_path, "method: linear\nmodels: [a, b, c]\ntokenizer: {source: union}")

    assert merged[EMBEDDING].dtype == torch.bfloat16
    # bfloat16 has 256 and 258: their mean 257 is not rounded before the last step.
    assert merged[EMBEDDING].flatten().tolist() == [1, torch.tensor(257.0).bfloat16().item()]


def test_a_merge_can_be_rebuilt_until_a_tokenizer_changes(folder: Path) -> None:
    first = merge(folder, ALL + "config_from: b\ntokenizer: {source: union}")
    job = MergeJob.rebuilding(folder / "merged", folder / "again", folder)
    job.check()
    job.run(lambda _bytes: None)

    assert torch.equal(
        load_file(folder / "again" / "model.safetensors")[EMBEDDING], first[EMBEDDING]
    )
    write_tokenizer(folder / "c", ["w", "y", "?"], added=["<s>"])
    with pytest.raises(InputError, match="the tokenizers of its models have changed"):
        MergeJob.rebuilding(folder / "merged", folder / "third", folder)


def test_notes_say_how_many_rows_come_from_where(folder: Path) -> None:
    job = read_job(folder, ALL + "tokenizer: {pad_to_multiple_of: 4}")
    notes = [note for note in job.notes if note.startswith("tokenizer")]

    assert notes == [
        "tokenizer: that of a, with 2 more tokens: 'z', 'w': 6 tokens",
        "tokenizer: 2 of 8 rows are no tokens: their rows are the mean of those of all tokens",
        "tokenizer: rows that a takes: 2 from c ('<s>', 'w'); 1 from b ('z')",
        "tokenizer: rows that b takes: 2 from c ('<s>', 'w')",
        "tokenizer: rows that c takes: 1 as the mean of a, b ('x'); 1 from b ('z')",
        "tokenizer: rows that are left out, as the output lacks them: 1 of c",
    ]


def test_a_model_without_tokenizer_has_the_tokens_of_the_first(folder: Path) -> None:
    save_model(folder / "d", {EMBEDDING: torch.tensor([[5.0, 50.0], [6.0, 60.0], [7.0, 70.0]])})
    text = "method: linear\nmodels: [b, d]\nmissing: base\ntokenizer: {source: union}"
    with pytest.raises(InputError, match=r"d: has no tokenizer, and 3 rows are too few .* with 4"):
        read_job(folder, text).check()

    (folder / "d" / "model.safetensors").unlink()
    (folder / "d").rmdir()
    save_model(folder / "d", {EMBEDDING: torch.tensor([[1.0 + n, 10 + 10 * n] for n in range(4)])})
    assert rows_of(folder, text)["z"] == 16.5
    assert "tokenizer: d has none; its tokens are taken to be those of b" in [
        *read_job(folder, text, "other").notes
    ]


def test_special_ids_are_those_of_the_output_s_tokenizer(folder: Path) -> None:
    config = {
        "vocab_size": 4,
        "eos_token_id": [2, 3],
        "pad_token_id": -1,
        "text": {"bos_token_id": 1},
    }
    (folder / "b" / "config.json").write_text(json.dumps(config))
    (folder / "b" / "generation_config.json").write_text(json.dumps({"eos_token_id": 3}))
    write_tokenizer(folder / "a", ["?", "x", "y"], added=["<s>"], eos_token="<s>")

    job = read_job(folder, ALL + "config_from: b\ntokenizer: {source: a}")
    job.check()
    job.run(lambda _bytes: None)

    merged = json.loads((folder / "merged" / "config.json").read_text())
    # z, which a lacks, becomes its end of text; x and y have other ids.
    assert merged["eos_token_id"] == [3, 1]
    assert (merged["pad_token_id"], merged["text"]["bos_token_id"]) == (-1, 2)
    generation = json.loads((folder / "merged" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 1
    said = "generation_config.json: eos_token_id is 1, as in the output's tokenizer, instead of 3"
    assert said in job.notes


def test_a_vocabulary_may_be_a_text_file(tmp_path: Path) -> None:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for name, words, factor in (("a", ["cat", "dog"], 1), ("b", ["dog", "emu"], 10)):
        rows = torch.arange(1.0, 8).unsqueeze(1) * factor
        save_model(tmp_path / name, {"bert.embeddings.word_embeddings.weight": rows})
        (tmp_path / name / "vocab.txt").write_text("\n".join([*special, *words]))
        config = {"tokenizer_class": "BertTokenizer"}
        (tmp_path / name / "tokenizer_config.json").write_text(json.dumps(config))

    merged = merge(tmp_path, "method: linear\nmodels: [a, b]\ntokenizer: {source: union}")

    own = vocabulary(tmp_path / "merged")
    assert [own["cat"], own["dog"], own["emu"]] == [5, 6, 7]
    rows = merged["bert.embeddings.word_embeddings.weight"].flatten()
    assert rows[5:].tolist() == [6, (7 + 60) / 2, 70]


def _without_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "a" / name).unlink()


def _damaged(folder: Path) -> None:
    (folder / "b" / "tokenizer.json").write_text("{}")


def _two_vocabularies(folder: Path) -> None:
    rows = {"encoder.embed_tokens.weight": 3, "decoder.embed_tokens.weight": 4}
    state = {name: torch.ones(number, 1) for name, number in rows.items()}
    save_file(state, folder / "a" / "model.safetensors")


def _other_head(folder: Path) -> None:
    for name, rows in (("a", 3), ("b", 3), ("c", 5)):
        file = folder / name / "model.safetensors"
        save_file({**load_file(file), HEAD: torch.ones(rows, 2)}, file)


@pytest.mark.parametrize(
    ("change", "section", "expected"),
    [
        (_without_tokenizer, "{source: union}", "a has no tokenizer, whose tokens the output"),
        (_damaged, "{source: union}", "b: its tokenizer cannot be read by transformers"),
        (_two_vocabularies, "{source: union}", "a: tokenizer needs models with one vocabulary"),
        (_other_head, "{source: union}", r"'lm_head.weight' of .*b: has 3 rows .* has 4"),
        (None, "{source: d}", "d"),
        (None, "{tokens: {x: {source: d}}}", r"tokens.x: source must be one of .*'a', 'b', 'c'"),
        (None, "{tokens: {x: {source: c}}}", "tokens.x: c must have token 'x'"),
        (
            None,
            "{tokens: {x: {source: {kind: model_token, model: c, token_id: 5}}}}",
            "tokens.x: c must have row 5, its embedding has 5 rows",
        ),
        (None, "{tokens: {x: {force: true}}}", "force needs a source, got none"),
        (
            None,
            "{tokens: {x: {source: {kind: model_token, model: c}}}}",
            "must have either token or token_id",
        ),
        (None, "{pad_to_multiple_of: 0}", "pad_to_multiple_of: must be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    folder: Path, change: Any, section: str, expected: str
) -> None:
    if change is not None:
        change(folder)

    with pytest.raises(InputError, match=expected):
        read_job(folder, f"{ALL}tokenizer: {section}").check()


def test_a_single_file_has_no_place_for_a_tokenizer(folder: Path) -> None:
    job = read_job(folder, ALL + "tokenizer: {source: union}", "merged.safetensors")

    with pytest.raises(InputError, match="tokenizer: needs a folder for the merged model"):
        job.check()


def test_a_tokens_row_must_be_of_a_model_that_is_merged_there(folder: Path) -> None:
    layers = "layers: [{path: a, range: [0, 1]}, {path: b, range: [0, 1]}]"
    text = f"method: passthrough\n{layers}\ntokenizer: {{tokens: {{z: {{source: b}}}}}}"

    with pytest.raises(InputError, match=r"a row of 'model.embed_tokens.weight' is that of .*b"):
        read_job(folder, text).check()


def test_the_former_name_of_a_union_says_the_new_one(folder: Path) -> None:
    with pytest.raises(InputError, match=r"equal_tokenizers was replaced: .*source: union"):
        read_job(folder, ALL + "equal_tokenizers: true")


def test_a_merged_model_is_read_by_transformers(tmp_path: Path) -> None:
    from tiny_transformers import WORDS, write_llama
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for number, name in enumerate(("a", "b")):
        write_llama(tmp_path / name, seed=number)
    other = AutoTokenizer.from_pretrained(tmp_path / "b")
    other.add_tokens(["<new>"], special_tokens=True)
    other.save_pretrained(tmp_path / "b")
    net = AutoModelForCausalLM.from_pretrained(tmp_path / "b")
    net.resize_token_embeddings(len(other), mean_resizing=False)
    net.save_pretrained(tmp_path / "b")
    merge(tmp_path, "method: linear\nmodels: [a, b]\ntokenizer: {pad_to_multiple_of: 16}")

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = tokenizer(" ".join([*WORDS, "<new>"]), return_tensors="pt")["input_ids"]
    assert merged.config.vocab_size == 32
    assert tokenizer.convert_ids_to_tokens(ids[0])[1:] == [*WORDS, "<new>"]
    assert merged(ids).logits.isfinite().all()
    own = net.get_input_embeddings().weight[len(other) - 1]
    assert torch.equal(merged.get_input_embeddings().weight[int(ids[0, -1])], own)


def test_unions_of_merges_within_are_those_of_two_merges(folder: Path) -> None:
    union = "tokenizer: {source: union}"
    inner = "method: linear, models: [a, b], tokenizer: {source: union}"

    once = rows_of(folder, f"method: linear\nmodels: [{{merge: {{{inner}}}}}, c]\n{union}")

    merge(folder, f"method: linear\nmodels: [a, b]\n{union}", "between")
    (folder / "merged").rename(folder / "once")
    # The row of a token that neither has is 0; in a file this looks like a mask.
    two = f"method: linear\nmodels: [between, c]\nmasks: none\n{union}"
    assert once == rows_of(folder, two)
    again = MergeJob.rebuilding(folder / "once", folder / "again", folder)
    again.run(lambda _bytes: None)
    assert torch.equal(
        load_file(folder / "again/model.safetensors")[EMBEDDING],
        load_file(folder / "once/model.safetensors")[EMBEDDING],
    )
    write_tokenizer(folder / "b", ["?", "y", "x", "z"])
    with pytest.raises(InputError, match=r"models.0.merge: the tokenizers of its models have chan"):
        MergeJob.rebuilding(folder / "once", folder / "third", folder)
