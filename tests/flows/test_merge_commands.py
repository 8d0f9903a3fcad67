"""The commands that merge models on disk, as people type them."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from safetensors.torch import load_file, save_file

from flows.cli import main
from flows.merge_commands import explain, merge, verify
from stockpot.disk_merging.streaming.devices import Device
from stockpot.errors import InputError

Stockpot: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, value in (("a", 1.0), ("b", 3.0)):
        save_file({"w": torch.full((4, 4), value)}, tmp_path / f"{name}.safetensors")
    (tmp_path / "merge.yaml").write_text("method: linear\nmodels: [a.safetensors, b.safetensors]")
    return tmp_path


def test_merge_explain_and_verify_follow_each_other(stockpot: Stockpot, folder: Path) -> None:
    merged = stockpot("merge", "merge.yaml", "merged")
    explained = stockpot("explain", "merged")
    verified = stockpot("verify", "merged")

    assert merged[0] == 0, merged[1]
    assert "linear: 2 models, 1 tensor;" in merged[1]
    assert "Next: stockpot explain merged" in merged[1]
    assert load_file(folder / "merged" / "model.safetensors")["w"].unique().tolist() == [2.0]
    assert explained[0] == 0, explained[1]
    assert "b.safetensors" in explained[1]
    assert verified[0] == 0, verified[1]
    assert "equal byte for byte" in verified[1]
    assert sorted(path.name for path in folder.iterdir()) == [
        "a.safetensors",
        "b.safetensors",
        "merge.yaml",
        "merged",
    ]


def test_a_merge_within_a_merge_is_explained_and_verified(stockpot: Stockpot, folder: Path) -> None:
    inner = "{method: slerp, models: [a.safetensors, b.safetensors], options: {t: 0.5}}"
    (folder / "merge.yaml").write_text(
        f"method: linear\nmodels: [a.safetensors, {{merge: {inner}, coefficient: 3}}]"
    )

    merged = stockpot("merge", "merge.yaml", "merged")
    explained = stockpot("explain", "merged")
    verified = stockpot("verify", "merged")

    assert merged[0] == 0, merged[1]
    assert "2: method: slerp, options: {'t': 0.5}" in explained[1]
    assert "2.2 │ b.safetensors" in explained[1]
    assert verified[0] == 0, verified[1]


def test_force_replaces_a_merge_and_no_input(stockpot: Stockpot, folder: Path) -> None:
    stockpot("merge", "merge.yaml", "merged")
    (folder / "merge.yaml").write_text("method: linear\nmodels: [a.safetensors]")
    (folder / "own.yaml").write_text("method: linear\nmodels: [merged, b.safetensors]")
    (folder / "files.yaml").write_text(
        "method: linear\nmodels: [a.safetensors]\nconfig_from: merged"
    )

    again = stockpot("merge", "merge.yaml", "merged")
    forced = stockpot("merge", "merge.yaml", "merged", "--force")
    of_itself = stockpot("merge", "own.yaml", "merged", "--force")
    of_its_files = stockpot("merge", "files.yaml", "merged", "--force")

    assert again[0] == 2
    assert "exists already" in again[1]
    assert forced[0] == 0, forced[1]
    assert load_file(folder / "merged" / "model.safetensors")["w"].unique().tolist() == [1.0]
    for code, said in (of_itself, of_its_files):
        assert code == 2
        assert "is in use" in said


def test_verify_sees_one_flipped_bit(stockpot: Stockpot, folder: Path) -> None:
    stockpot("merge", "merge.yaml", "merged")
    weights = folder / "merged" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    code, said = stockpot("verify", "merged")

    assert code == 1
    assert "its weights differ from those of its pedigree" in said


def test_a_dry_run_says_what_is_out_of_the_ordinary_and_writes_nothing(
    stockpot: Stockpot, folder: Path
) -> None:
    (folder / "merge.yaml").write_text("method: linear\nmodels: [a.safetensors, a.safetensors]")

    code, said = stockpot("merge", "merge.yaml", "merged", "--dry-run")

    assert code == 0, said
    assert "- equal models: a.safetensors, a.safetensors; their weights count 2 times" in said
    assert "Nothing was merged" in said
    assert not (folder / "merged").exists()


def test_bad_input_ends_with_code_2_and_without_traceback(stockpot: Stockpot, folder: Path) -> None:
    (folder / "merge.yaml").write_text("method: linaer\nmodels: [a.safetensors]")

    code, said = stockpot("merge", "merge.yaml", "merged")

    assert code == 2
    assert "did you mean 'linear'" in said
    assert "Traceback" not in said


def _cut_short(folder: Path) -> str:
    path = folder / "b.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    return "b.safetensors"


def _flip_a_byte_of_the_header(folder: Path) -> str:
    path = folder / "b.safetensors"
    content = bytearray(path.read_bytes())
    content[8] ^= 1
    path.write_bytes(content)
    return "b.safetensors"


def _make_a_value_infinite(folder: Path) -> str:
    path = folder / "b.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x80\x7f")  # float32 inf, by one bad byte
    return "'w'"


def _put_code_in_a_pickle(folder: Path) -> str:
    torch.save({"w": Path.touch}, folder / "b.pt")
    return _replace_b(folder, "b.pt")


def _point_the_index_outside(folder: Path) -> str:
    (folder / "b").mkdir()
    index = {"weight_map": {"w": "../b.safetensors"}}
    (folder / "b" / "model.safetensors.index.json").write_text(json.dumps(index))
    return _replace_b(folder, "b")


def _lose_a_shard(folder: Path) -> str:
    (folder / "b").mkdir()
    index = {"weight_map": {"w": "part.safetensors"}}
    (folder / "b" / "model.safetensors.index.json").write_text(json.dumps(index))
    _replace_b(folder, "b")
    return "part.safetensors"


def _make_a_shard_unreadable(folder: Path) -> str:
    said = _lose_a_shard(folder)
    (folder / "b" / "part.safetensors").symlink_to("part.safetensors")  # also for root
    return said


def _replace_b(folder: Path, name: str) -> str:
    (folder / "merge.yaml").write_text(f"method: linear\nmodels: [a.safetensors, {name}]")
    return name


@pytest.mark.parametrize(
    "damage",
    [
        _cut_short,
        _flip_a_byte_of_the_header,
        _make_a_value_infinite,
        _put_code_in_a_pickle,
        _point_the_index_outside,
        _lose_a_shard,
        _make_a_shard_unreadable,
    ],
)
def test_a_damaged_input_is_named_and_nothing_else_is_touched(
    folder: Path, damage: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    named = damage(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    with pytest.raises(InputError, match=named):
        merge(folder / "merge.yaml", folder / "merged")

    capsys.readouterr()
    assert not (folder / "merged").exists()
    after = {path: path.read_bytes() for path in before}
    assert after == before


SMALL_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_file_that_the_disk_has_no_room_for_is_an_error_and_can_be_made_later(
    stockpot: Stockpot,
    folder: Path,
) -> None:
    command = [str(Path(sys.executable).with_name("stockpot")), "merge", "merge.yaml", "merged"]
    inputs = {path: path.read_bytes() for path in folder.glob("*.safetensors")}

    done = subprocess.run(
        [sys.executable, "-c", SMALL_FILES, *command],
        cwd=folder,
        env=os.environ | {"COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    is_there = (folder / "merged").exists()
    later, _ = stockpot("merge", "merge.yaml", "merged")

    assert done.returncode == 2
    assert "GB could not be allocated (File too large); free space and run it again" in done.stderr
    assert not is_there
    assert later == 0
    assert {path: path.read_bytes() for path in inputs} == inputs


WRITES_TO = """
import sys
from pathlib import Path
from stockpot.storage.locks import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("writes", flush=True)
    sys.stdin.readline()
"""


def test_a_second_merge_to_one_place_says_which_process_is_at_it(
    stockpot: Stockpot, folder: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITES_TO, str(folder / "merged")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "writes\n"

        code, said = stockpot("merge", "merge.yaml", "merged")
        first.communicate("\n")
    after, _ = stockpot("merge", "merge.yaml", "merged")

    assert code == 2
    assert f"merged: process {first.pid} (stockpot merge, since " in said
    assert after == 0
    assert not list(folder.glob(".*"))


def test_methods_are_listed_with_their_options(stockpot: Stockpot) -> None:
    code, said = stockpot("merge", "--methods")

    assert code == 0, said
    assert "linear" in said


def test_inspect_says_whether_models_belong_together(stockpot: Stockpot, folder: Path) -> None:
    save_file({"other": torch.ones(1)}, folder / "c.safetensors")

    fitting = stockpot("inspect", "a.safetensors", "b.safetensors", "--weights")
    strange = stockpot("inspect", "a.safetensors", "c.safetensors")

    assert fitting[0] == 0, fitting[1]
    assert "These models can be merged" in fitting[1]
    assert "1.00" in fitting[1]
    assert strange[0] == 1, strange[1]
    assert "model 1 lacks w, which model 0 has" in strange[1]
    assert "cannot be merged as they are" in strange[1]


def test_adapters_are_merged_explained_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("a", "b")):
        change = factors("m", randn(2, 9, seed=number), randn(8, 2, seed=number + 2))
        save_adapter(tmp_path / name, change)
    text = "method: linear\nmodels: [a, b]\noutput: adapter\nrank: 3"
    (tmp_path / "merge.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)

    merge(Path("merge.yaml"), Path("merged"), dry_run=True)
    merge(Path("merge.yaml"), Path("merged"))
    explain(Path("merged"))
    verify(Path("merged"))

    said = capsys.readouterr().out
    assert said.count("linear: 2 adapters, 1 module\n") == 2
    assert "Nothing was merged (--dry-run)." in said
    assert "1 module, rank 3, Frobenius error" in said
    assert "output: adapter\nrank: 3" in said
    assert "equal byte for byte" in said


def test_signatures_are_written_added_and_removed(stockpot: Stockpot, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for name in ("pretrained", "clean", "noise", "model"):
        (tmp_path / name).mkdir()
        state = {
            f"layers.{n}.weight": torch.randn(8, 8, generator=generator).bfloat16()
            for n in range(6)
        }
        save_file(state, tmp_path / name / "model.safetensors")
    (tmp_path / "patch.yaml").write_text(
        "method: weight_signatures\noutput: patch\nbits: 4\nbase: pretrained\n"
        "models: [{path: clean, role: clean}, {path: noise, role: corrupted}]"
    )
    patched = (
        "method: weight_signatures\n"
        "models: [{path: TARGET, role: target}, {path: noise.safetensors, role: patch}]\n"
    )
    (tmp_path / "apply.yaml").write_text(patched.replace("TARGET", "model") + "dtype: float32")
    (tmp_path / "undo.yaml").write_text(patched.replace("TARGET", "robust") + "dtype: bfloat16")

    written = stockpot("merge", "patch.yaml", "noise.safetensors")
    added = stockpot("merge", "apply.yaml", "robust")
    removed = stockpot("merge", "undo.yaml", "restored", "--remove")
    verified = stockpot("verify", "noise.safetensors"), stockpot("verify", "restored")
    explained = stockpot("explain", "restored")

    assert written[0] == 0, written[1]
    assert "2 signatures in 4 bits; rounding changes an entry by at most " in written[1]
    assert added[0] == 0, added[1]
    assert "signatures in 2 of 6 tensors: layers.0.weight, layers.1.weight" in added[1]
    assert removed[0] == 0, removed[1]
    assert [code for code, _ in verified] == [0, 0]
    assert "'remove': True" in explained[1]
    first, robust, last = (
        load_file(tmp_path / name / "model.safetensors") for name in ("model", "robust", "restored")
    )
    assert not torch.equal(robust["layers.0.weight"].bfloat16(), first["layers.0.weight"])
    assert all(torch.equal(first[name], last[name]) for name in first)


def test_a_quantised_model_is_refused_by_every_command(stockpot: Stockpot, folder: Path) -> None:
    codes = {"w.qweight": torch.ones(4, 4).int(), "w.scales": torch.ones(1, 4)}
    save_file(codes, folder / "a.safetensors")

    for command in (["merge", "merge.yaml", "m", "--dry-run"], ["inspect", "a.safetensors"]):
        code, text = stockpot(*command)

        assert code == 2
        assert "quantised in AWQ (tensor 'w.qweight')" in " ".join(text.split())


def test_errors_and_results_show_brackets_as_they_are(stockpot: Stockpot, folder: Path) -> None:
    (folder / "a.safetensors").rename(folder / "a[v2].safetensors")
    (folder / "merge.yaml").write_text("method: linear\nmodels: ['a[v2].safetensors', '[/b]']")

    missing = stockpot("merge", "merge.yaml", "merged")
    (folder / "merge.yaml").write_text("method: linear\nmodels: ['a[v2].safetensors']")
    merged = stockpot("merge", "merge.yaml", "merged[v3]")

    assert missing[0] == 2
    assert "[/b]: no such file" in missing[1]
    assert merged[0] == 0, merged[1]
    assert "Next: stockpot explain 'merged[v3]'" in merged[1]
    assert "a[v2].safetensors" in stockpot("explain", "merged[v3]")[1]


def test_several_outputs_are_forecast_and_written(stockpot: Stockpot, folder: Path) -> None:
    outputs = "outputs: [{name: even}, {name: more-of-a, coefficients: [3, 1]}]"
    with (folder / "merge.yaml").open("a") as file:
        file.write(f"\n{outputs}")

    forecast = stockpot("merge", "merge.yaml", "soups", "--dry-run")
    merged = stockpot("merge", "merge.yaml", "soups")
    inside = stockpot("merge", "merge.yaml", "soups/even")

    assert forecast[0] == 0, forecast[1]
    assert "Nothing was merged" in forecast[1]
    assert merged[0] == 0, merged[1]
    weights = load_file(folder / "soups" / "more-of-a" / "model.safetensors")["w"]
    assert weights.unique().tolist() == [1.5]
    assert inside[0] == 2
    assert "soups/even: is a model" in inside[1]


def test_a_folder_in_place_of_the_merge_file_is_no_crash(stockpot: Stockpot, folder: Path) -> None:
    code, said = stockpot("merge", str(folder), "merged")

    assert code == 2
    assert "must be a YAML file" in said


def test_verify_says_where_it_looks_for_the_inputs(stockpot: Stockpot, folder: Path) -> None:
    stockpot("merge", "merge.yaml", "merged")
    (folder / "a.safetensors").rename(folder / "moved.safetensors")

    code, said = stockpot("verify", "merged")

    assert code == 2
    assert "a.safetensors: no such file; paths in the pedigree are relative to" in said
    assert "--inputs" in said


@pytest.mark.parametrize("name", ["merged.bin", "merged.gguf"])
def test_a_name_of_another_format_is_refused_for_the_output(
    stockpot: Stockpot, folder: Path, name: str
) -> None:
    code, said = stockpot("merge", "merge.yaml", name)

    assert code == 2
    assert "must be a folder, or a file that ends in .safetensors" in said
    assert not (folder / name).exists()


def test_names_are_shown_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    (folder / "a.safetensors").rename(folder / "[red]\u00e9.safetensors")
    (folder / "bad.yaml").write_text("method: '[/x]'\nmodels: [b.safetensors]")
    text = "method: linear\nmodels: ['[red]\u00e9.safetensors', b.safetensors]"
    (folder / "merge.yaml").write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdout", shown)
    codes = []

    for arguments in (
        ("merge", "merge.yaml", "[red]m"),
        ("explain", "[red]m"),
        ("inspect", "[red]\u00e9.safetensors", "b.safetensors"),
        ("verify", "[red]m"),
        ("merge", "bad.yaml", "out"),
    ):
        monkeypatch.setattr(sys, "argv", ["stockpot", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        codes.append(end.value.code)

    shown.seek(0)
    output = shown.read()
    assert codes == [0, 0, 0, 0, 2]
    assert output.count("[red]m: ") == 3
    assert output.count("[red]\\xe9.safetensors") == 2
    assert "unknown merge method '[/x]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{method: linaer, models: [a]}", "method: unknown merge method 'linaer', choose from"),
        ("{method: ties, models: [a]}", "ties: needs a base, which the models started from, got"),
        ("{method: slerp, models: [a]}", "slerp: merges 2 models, got 1"),
        ("{method: linear, models: [a, c]}", "c: no such file"),
        ("{method: linear, models: ['']}", "models.0: must have at least 1 character, got ''"),
        ("{method: linear, models: [a], base: ''}", "base: must have at least 1 character, got ''"),
        ("{method: linear, models: [a], options: {x: 1}}", "linear: unknown option 'x'"),
        ("{method: linear, models: [a], exclude: [x]}", "exclude: 'x' must be a part of the name"),
        (
            "{method: linear, models: [a, b], rules: [{match: '*', method: ties}]}",
            "rules.0: ties: needs a base",
        ),
        (
            "{method: geometric_median, models: [a, b], options: {tol: x}}",
            "geometric_median: bad options {'tol': 'x'}",
        ),
        (
            "{method: linear, models: [a, {merge: {method: slerp, models: [b]}}]}",
            "models.1.merge: slerp: merges 2 models, got 1",
        ),
        (
            "{method: linear, models: [a], outputs: [{name: x, options: {d: 1}}]}",
            "outputs.0 (x): linear: unknown option 'd'",
        ),
        ("{method: linear, models: [a, b], output: adapter}", "a.safetensors: must be an adapter"),
        ("{merge_method: tis, models: [{model: a}]}", "merge_method: unknown merge method 'tis'"),
        ("{merge_method: ties, models: [{model: a}]}", "ties: needs a base"),
    ],
)
def test_errors_of_a_merge_file_begin_with_its_name(
    stockpot: Stockpot, folder: Path, text: str, expected: str
) -> None:
    for name in ("a", "b"):
        text = re.sub(rf"(?<=[ \[]){name}(?=[,}}\]])", f"{name}.safetensors", text)
    (folder / "merge.yaml").write_text(text)

    code, said = stockpot("merge", "merge.yaml", "merged", "--dry-run")

    assert code == 2
    assert said.startswith(f"merge.yaml: {expected}")


@pytest.mark.parametrize("flags", [[], ["--force"]])
def test_places_that_contain_an_input_or_are_in_one_are_refused(
    stockpot: Stockpot, folder: Path, flags: list[str]
) -> None:
    (folder / "model").mkdir()
    (folder / "a.safetensors").rename(folder / "model" / "model.safetensors")
    (folder / "merge.yaml").write_text("{method: linear, models: [model, b.safetensors]}")
    before = sorted(folder.rglob("*"))

    for place in ("model/merged", "model/x.safetensors"):
        code, said = stockpot("merge", "merge.yaml", place, *flags)

        assert code == 2
        assert said.startswith(f"merge.yaml: {place}: is in the folder of model, which is an input")
    assert sorted(folder.rglob("*")) == before


def test_a_device_that_is_not_there_is_refused_before_any_work(
    stockpot: Stockpot, folder: Path
) -> None:
    code, said = stockpot("merge", "merge.yaml", "merged", "--device", "cuda:7")

    assert code == 2
    assert "--device: " in said
    assert not (folder / "merged").exists()
    assert stockpot("merge", "merge.yaml", "merged", "--device", "auto")[0] == 0


def test_verify_says_that_a_merge_on_another_device_may_differ(
    stockpot: Stockpot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "label", "Some GPU, PyTorch 2.99")
    stockpot("merge", "merge.yaml", "merged")
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    explained = stockpot("explain", "merged")
    verified = stockpot("verify", "merged")
    weights = folder / "merged" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    code, said = stockpot("verify", "merged")

    assert "device: Some GPU, PyTorch 2.99" in explained[1]
    assert verified[0] == 0, verified[1]
    assert code == 1
    assert "merged on Some GPU, PyTorch 2.99 and rebuilt on the CPU" in said
