"""Models of the Hugging Face Hub: in a cache made by hand, and from a server on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from huggingface_hub import constants
from safetensors.torch import load_file, save, save_file

from stockpot.disk_merging.adapters.lora_extraction import LoraExtraction
from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.merge_files.mergekit_form import load_merge
from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.errors import InputError
from stockpot.ingredients.importing.sources import find_sources
from stockpot.storage.digests import files_digest
from stockpot.storage.hub import HubName, model_path
from stockpot.storage.weights.opening import open_source

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two commits of one model, of which main is the newer; no network."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    _add(folder, "org/model", OLD, 1.0, "v1")
    _add(folder, "org/model", NEW, 3.0, "main")
    return folder


def _add(cache: Path, repo: str, commit: str, value: float, reference: str) -> Path:
    """Lay out a snapshot as the Hub's library does: links to blobs."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    snapshot, blobs = folder / "snapshots" / commit, folder / "blobs"
    for path in (snapshot, blobs, folder / "refs"):
        path.mkdir(parents=True, exist_ok=True)
    save_file({"w.weight": torch.full((4, 4), value)}, blobs / commit)
    (snapshot / "model.safetensors").symlink_to(blobs / commit)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "toy"}))
    (folder / "refs" / reference).write_text(commit)
    return snapshot


def _merge(text: str, place: str = "merged") -> dict[str, Any]:
    Path("merge.yaml").write_text(text)
    job = MergeJob.read(Path("merge.yaml"), Path(place))
    job.check()
    job.run(lambda _bytes: None)
    return read_pedigree(Path(place))


@pytest.mark.parametrize(
    ("name", "repo", "revision"),
    [
        ("org/model", "org/model", "main"),
        ("org/model@v1", "org/model", "v1"),
        ("O.r-g_1/M.7B-v0.1@refs/pr/3", "O.r-g_1/M.7B-v0.1", "refs/pr/3"),
    ],
)
def test_names_of_the_hub_are_recognised(name: str, repo: str, revision: str) -> None:
    assert HubName.parse(name) == HubName(repo, revision)


@pytest.mark.parametrize(
    "name",
    [
        *("model", "./org/model", "/org/model", "a/b/c", "~/x", "../model", "org/.."),
        *("org/my--model", "org/model-", f"org/{'m' * 97}"),
        *("org/model.safetensors", "org/m.gguf@v1", "org/model@", "org/model@../x", "org/m+org/n"),
    ],
)
def test_paths_are_not_names_of_the_hub(name: str) -> None:
    assert HubName.parse(name) is None
    assert model_path(Path("x"), name) == Path("x") / Path(name).expanduser()


def test_a_name_is_its_snapshot_in_the_cache(cache: Path) -> None:
    snapshots = cache / "models--org--model" / "snapshots"

    assert model_path(Path(), "org/model") == snapshots / NEW
    assert model_path(Path("elsewhere"), "org/model@v1") == snapshots / OLD
    assert model_path(Path(), f"org/model@{OLD}") == snapshots / OLD


def test_a_local_folder_of_that_name_wins() -> None:
    Path("org/model").mkdir(parents=True)

    assert model_path(Path(), "org/model") == Path("org/model")


def test_a_merge_records_the_commits_and_is_rebuilt_from_them(cache: Path) -> None:
    pedigree = _merge(
        "method: task_arithmetic\nmodels: [org/model@v1, {path: org/model}]\nbase: org/model@v1"
    )

    assert [each["path"] for each in pedigree["models"]] == [f"org/model@{OLD}", f"org/model@{NEW}"]
    assert pedigree["base"]["path"] == f"org/model@{OLD}"
    blob = cache / "models--org--model" / "blobs" / NEW
    assert pedigree["models"][1]["digest"] == files_digest([blob], "blake3")
    assert json.loads(Path("merged/config.json").read_text()) == {"model_type": "toy"}

    _add(cache, "org/model", "c" * 40, 9.0, "main")
    again = MergeJob.rebuilding(Path("merged"), Path("again"), Path())
    again.run(lambda _bytes: None)
    assert read_pedigree(Path("again")) == pedigree
    assert load_file("again/model.safetensors")["w.weight"].unique().tolist() == [3.0]


def test_notes_name_models_as_on_the_hub(cache: Path) -> None:
    blob = _add(cache, "org/wrapped", OLD, 1.0, "main") / "model.safetensors"
    save_file({"module.w.weight": torch.ones(4, 4)}, blob.resolve())
    Path("merge.yaml").write_text("method: linear\nmodels: [org/model, org/wrapped]")

    notes = MergeJob.read(Path("merge.yaml"), Path("merged")).notes

    assert (
        "org/wrapped: 1 tensor is named as in org/model: 'w.weight' is read from 'module.w.weight'"
    ) in notes


def test_names_in_layers_and_of_adapters_get_commits(cache: Path) -> None:
    save_adapter(Path("lora"), factors("w", randn(2, 4), randn(4, 2)))
    _add(cache, "org/layers", OLD, 1.0, "main")
    text = """
    method: passthrough
    layers: [{path: org/layers, range: [0, 1]}, {path: org/model+lora, range: [0, 1]}]
    config_from: org/model
    tokenizer:
      source: org/layers
      tokens: {x: {source: {kind: model_token, model: org/model, token: y}}}
    """
    Path("merge.yaml").write_text(text)

    file = load_merge(Path("merge.yaml"))

    assert [entry.path for entry in file.entries] == [f"org/layers@{OLD}", f"org/model@{NEW}+lora"]
    assert file.config_from == f"org/model@{NEW}"
    assert file.tokenizer is not None
    assert file.tokenizer.named_models == [f"org/layers@{OLD}", f"org/model@{NEW}"]


def test_an_adapter_finds_its_base_in_the_cache() -> None:
    changes = {"w": randn(2, 4)}
    save_adapter(
        Path("lora"),
        {"w.lora_A.weight": changes["w"], "w.lora_B.weight": randn(4, 2, seed=1)},
        base_model_name_or_path="org/gone",
        revision="v1",
    )

    with pytest.raises(InputError, match=r"'org/gone', which is not on this disk; .* org/gone"):
        open_source(Path("lora"))


def test_an_extracted_adapter_finds_its_base_by_name_and_revision() -> None:
    tuned, base = (open_source(model_path(Path(), f"org/model@{name}")) for name in ("main", "v1"))

    found = dict(LoraExtraction(tuned, base, "org/model@v1", Path("lora"), rank=1).run())

    config = json.loads(Path("lora/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/model", "v1")
    assert found["w.weight"].relative < 1e-6
    torch.testing.assert_close(open_source(Path("lora")).read("w.weight"), tuned.read("w.weight"))


def test_a_sweep_imports_a_model_of_the_hub_by_name(cache: Path) -> None:
    (source,) = find_sources(Path(), ["org/model@v1"])

    snapshot = cache / "models--org--model" / "snapshots" / OLD
    assert (source.name, source.path) == ("imported-model", snapshot)
    assert source.files == (snapshot / "model.safetensors",)
    with pytest.raises(InputError, match=r"sweep.import: .*org/none: no such file"):
        find_sources(Path(), ["org/none"])


def test_what_is_not_in_the_cache_is_named_with_the_command_that_downloads_it(cache: Path) -> None:
    incomplete = _add(cache, "org/part", OLD, 1.0, "main")
    (incomplete / "model.safetensors").unlink()

    for name, expected in (
        (
            "org/other",
            r"other: no such file .* are not in the cache, .*cache, and HF_HUB_OFF",
        ),
        ("org/other", r"HF_HUB_OFFLINE forbids a download: `hf download org/other`$"),
        ("org/model@v2", r"'v2' are not in .*: `hf download org/model --revision v2`$"),
        ("org/part", "its weights at 'main' are not in the cache"),
    ):
        with pytest.raises(InputError, match=expected):
            model_path(Path(), name)
    with pytest.raises(InputError, match="hf download org/other"):
        _merge("method: linear\nmodels: [org/model, org/other]")


def test_an_unknown_method_is_found_before_any_download() -> None:
    with pytest.raises(InputError, match="unknown merge method 'dare-ties'"):
        _merge("method: dare-ties\nmodels: [org/model, org/other]")


class _Hub(BaseHTTPRequestHandler):
    """The endpoints of the Hub that a download uses, for one model and a gated one."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        if path == "/api/models/org/far/revision/main":
            self._answer(json.dumps({"id": "org/far", "sha": NEW, "siblings": []}).encode())
        elif path == f"/api/models/org/far/tree/{NEW}":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": NEW}
                for name, content in self.files.items()
            ]
            self._answer(json.dumps(tree).encode())
        elif (name := path.removeprefix(f"/org/far/resolve/{NEW}/")) in self.files:
            self.asked.append(name)
            self._answer(self.files[name])
        elif "gated" in path:
            self._answer(b"", 403, {"X-Error-Code": "GatedRepo"})
        else:
            self._answer(b"", 404, {"X-Error-Code": "RepoNotFound"})

    def _answer(self, body: bytes, code: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        etag = hashlib.sha256(body).hexdigest()
        sent = {"Content-Length": str(len(body)), "ETag": f'"{etag}"', "X-Repo-Commit": NEW}
        for name, value in (sent | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    """A server on this machine that huggingface_hub takes for the Hub."""
    _Hub.files, _Hub.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield _Hub
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_once_without_its_other_formats(hub: type[_Hub]) -> None:
    weights = save({"w": torch.ones(2)})
    others = (
        "pytorch_model.bin",
        "onnx/model.safetensors",
        "model.gguf",
        "consolidated.safetensors",
    )
    hub.files = {"config.json": b"{}", "model.safetensors": weights} | dict.fromkeys(others, b"x")

    folder = model_path(Path(), "org/far")

    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert open_source(folder).read("w").tolist() == [1.0, 1.0]
    assert set(hub.asked) == {"config.json", "model.safetensors"}
    hub.asked.clear()
    assert model_path(Path(), "org/far") == folder
    assert hub.asked == []


def test_pickled_weights_are_downloaded_if_there_are_no_others(hub: type[_Hub]) -> None:
    torch.save({"w": torch.ones(2)}, "weights")
    hub.files = {"config.json": b"{}", "pytorch_model.bin": Path("weights").read_bytes()}

    assert open_source(model_path(Path(), "org/far")).read("w").tolist() == [1.0, 1.0]


@pytest.mark.usefixtures("hub")
def test_what_cannot_be_downloaded_says_why() -> None:
    with pytest.raises(InputError, match=r"org/gated needs permission: .* `hf auth login`"):
        model_path(Path(), "org/gated")
    with pytest.raises(InputError, match=r"org/none at 'main' cannot be downloaded \(status 404\)"):
        model_path(Path(), "org/none")


def test_a_model_whose_weights_are_all_in_folders_is_found_in_the_cache(cache: Path) -> None:
    snapshot = _add(cache, "org/encoder", NEW, 2.0, "main")
    (snapshot / "0_Encoder").mkdir()
    (snapshot / "model.safetensors").rename(snapshot / "0_Encoder" / "model.safetensors")
    (snapshot / "modules.json").write_text('[{"path": "0_Encoder"}]')

    assert open_source(model_path(Path(), "org/encoder")).tensors.keys() == {"0_Encoder/w.weight"}


def test_the_card_names_models_as_on_the_hub_with_the_commit() -> None:
    _merge("method: linear\nmodels: [org/model, org/model@v1]")

    card = Path("merged/README.md").read_text()
    assert "base_model:\n- org/model\nbase_model_relation: merge\n" in card
    assert f"| org/model@{NEW} | 1.0 |" in card
    assert f"| org/model@{OLD} | 1.0 |" in card
    assert f"org/model@{OLD}]\n" in card
