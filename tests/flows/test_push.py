"""`stockpot push`: real requests of huggingface_hub, to a server on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from hub_server import Hub, Repository, logged_in, serving
from merge_files import save_model

Stockpot = Callable[..., tuple[int, str]]

# huggingface_hub uses an argument that its HTTP library will rename.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Serve as the Hub, and log in to it."""
    with serving() as served, logged_in(served):
        yield served


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Write a model with a module in a folder, a card and a hidden file."""
    save_model(tmp_path / "merged", {"w": torch.ones(2, 2)}, model_type="x")
    (tmp_path / "merged" / "README.md").write_text("---\ntags: [merge]\n---\n# merged\n")
    (tmp_path / "merged" / "1_Pooling").mkdir()
    (tmp_path / "merged" / "1_Pooling" / "config.json").write_text("{}")
    (tmp_path / "merged" / ".cache").mkdir()
    (tmp_path / "merged" / ".cache" / "secret").write_text("secret")
    return tmp_path / "merged"


def _files(model: Path) -> dict[str, bytes]:
    return {
        path.relative_to(model).as_posix(): path.read_bytes()
        for path in model.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


def test_a_model_is_uploaded_to_a_repository_that_is_made_for_it(
    stockpot: Stockpot, hub: Hub, model: Path
) -> None:
    code, said = stockpot("push", "merged", "org/soup", "--private")

    assert code == 0, said
    assert f"{hub.url}/org/soup/commit/" in said
    repository = hub.repositories["org/soup"]
    assert repository.private
    assert repository.branches == {"main": _files(model)}
    assert repository.messages == ["Upload merged"]
    assert len(hub.uploaded) == 1  # the weights


def test_a_branch_gets_the_new_weights_alone_and_main_is_unchanged(
    stockpot: Stockpot, hub: Hub, model: Path
) -> None:
    names = ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "LICENSE")
    before = dict.fromkeys(names, b"old")
    hub.repositories["me/soup"] = Repository(branches={"main": dict(before)})

    code, said = stockpot("push", "merged", "soup", "--revision", "ties", "-m", "TIES")

    assert code == 0, said
    repository = hub.repositories["me/soup"]
    expected = {"main": before, "ties": {"LICENSE": b"old", **_files(model)}}
    assert repository.branches == expected
    assert repository.messages == ["TIES"]


def test_a_server_without_xet_is_refused_with_the_setting_that_avoids_it(
    stockpot: Stockpot, hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)

    code, said = stockpot("push", model.name, "org/soup")

    assert code == 1, said
    assert "xet-write-token" in said
    assert "HF_HUB_DISABLE_XET=1" in " ".join(said.split())
    assert hub.repositories["org/soup"].messages == []


def test_an_adapter_is_uploaded_too(stockpot: Stockpot, hub: Hub, tmp_path: Path) -> None:
    save_adapter(tmp_path / "lora", factors("w", randn(2, 2), randn(2, 2)))

    assert stockpot("push", "lora", "org/lora")[0] == 0
    assert set(hub.repositories["org/lora"].branches["main"]) == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_nothing_that_is_to_be_private_goes_to_a_public_repository(
    stockpot: Stockpot, hub: Hub, model: Path
) -> None:
    hub.repositories["org/soup"] = Repository(private=False)

    code, said = stockpot("push", str(model), "org/soup", "--private")

    assert code == 2
    assert "org/soup: exists and is public; nothing was uploaded" in said
    assert hub.repositories["org/soup"].branches == {"main": {}}


def test_what_the_hub_refuses_is_said_in_words(
    stockpot: Stockpot, hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pushed() -> tuple[int, str]:
        return stockpot("push", str(model), "org/soup")

    hub.may_write = False
    code, said = pushed()
    assert code == 2
    assert "org/soup: the token may not write to it (You don't have the rights" in said

    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    code, said = pushed()
    assert code == 2
    assert "does not accept the token" in said
    assert "hf auth login" in said

    hub.failing = True
    assert pushed() == (1, f"{hub.url}: failed with status 500 (Internal error); push again later")
    assert not hub.uploaded


def test_without_a_token_a_connection_or_permission_to_connect_nothing_is_tried(
    stockpot: Stockpot, hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code, said = stockpot("push", str(model), "org/soup")
    assert code == 1
    assert "http://127.0.0.1:9: cannot be reached" in said

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    code, said = stockpot("push", str(model), "org/soup")
    assert code == 2
    assert "no token for http://127.0.0.1:9; log in with `hf auth login`" in said

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, said = stockpot("push", str(model), "org/soup")
    assert code == 2
    assert "HF_HUB_OFFLINE is set" in said
    assert not hub.repositories


def test_what_is_not_a_model_is_refused_before_any_request(
    stockpot: Stockpot, hub: Hub, model: Path, tmp_path: Path
) -> None:
    hub.failing = True
    (tmp_path / "empty").mkdir()
    assert "empty: expected model.safetensors" in stockpot("push", "empty", "org/soup")[1]
    assert "must be the folder of a model" in stockpot("push", "missing", "org/soup")[1]
    assert "not the name of a repository" in stockpot("push", "merged", "a/b/c")[1]

    (model / "vocab.json").symlink_to("vocab.json")
    assert "vocab.json: is a link that leads nowhere" in stockpot("push", "merged", "org/soup")[1]
    (model / "vocab.json").unlink()

    (tmp_path / "key").write_text("secret")
    (model / "tokenizer.json").symlink_to(tmp_path / "key")
    code, said = stockpot("push", "merged", "org/soup")
    assert code == 2
    assert "tokenizer.json: is a link to" in said
