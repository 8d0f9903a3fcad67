"""Models of the Hugging Face Hub: found in the local cache, downloaded where that is allowed.

This module imports no torch, and huggingface_hub only for a name that may be on the Hub.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.local_paths import located
from stockpot.storage.weights.adapter_config import CONFIG
from stockpot.storage.weights.components import all_weights
from stockpot.storage.weights.hub_layout import is_repository, snapshot

_REVISION = re.compile(r"[\w./-]+")
_FILE = re.compile(r"\.(safetensors|bin|pt|pth|ckpt|tar|gguf|h5|onnx|npz|ya?ml|json)$")

_COMPANIONS = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py", "*.md")
# The same weights in other formats.
_OTHERS = ("onnx/*", "openvino/*", "original/*", "consolidated*", "checkpoint-*/*", "runs/*")


@dataclass(frozen=True, slots=True)
class HubName:
    """A model on the Hub.

    Attributes:
        repo: `owner/name`.
        revision: a branch, a tag or a commit.
    """

    repo: str
    revision: str = "main"

    @classmethod
    def parse(cls, name: str) -> HubName | None:
        """Read `owner/name` or `owner/name@revision`; None for a name of another form.

        Names that end like files of weights are paths.
        """
        repo, at, revision = name.partition("@")
        if not is_repository(repo) or _FILE.search(repo):
            return None
        if at and (".." in revision or not _REVISION.fullmatch(revision)):
            return None
        return cls(repo, revision or "main")

    @property
    def download_command(self) -> str:
        """The command that downloads it, in backticks."""
        more = "" if self.revision == "main" else f" --revision {self.revision}"
        return f"`hf download {self.repo}{more}`"


def is_remote(folder: Path, name: str) -> bool:
    """Return whether a name stands for a model on the Hub: there is no such path."""
    return HubName.parse(name) is not None and not located(folder, name).exists()


def model_path(folder: Path, name: str) -> Path:
    """Return the path of a model: a local one if it exists, else that of its snapshot of the Hub.

    Args:
        folder: that of the file which names it; see `located`.
        name: a path, or `owner/name` or `owner/name@revision` on the Hub.

    Returns:
        A path that may not exist, if the name has another form than one on the Hub.

    Raises:
        InputError: there is no such path, and the model is not in the cache and cannot be
            downloaded; or there are two such paths.
    """
    path = located(folder, name)
    on_hub = None if path.exists() else HubName.parse(name)
    return path if on_hub is None else _snapshot(on_hub, path)


def with_commit(folder: Path, name: str) -> str:
    """Replace the revision in the name of a model on the Hub by its commit; others are unchanged.

    Args:
        folder: that of the file which names it; see `located`.
        name: as for `model_path`.

    Raises:
        InputError: as for `model_path`.
    """
    path = located(folder, name)
    on_hub = None if path.exists() else HubName.parse(name)
    return name if on_hub is None else f"{on_hub.repo}@{_snapshot(on_hub, path).name}"


def _snapshot(model: HubName, path: Path) -> Path:
    """Return the folder of a model's files in the cache, after a download if they are not there.

    A cached revision is not updated, so that a merge is repeated with the same weights.
    """
    where = f"{path}: no such file or folder; as a model of the Hugging Face Hub"
    try:
        from huggingface_hub import constants
    except ImportError:
        raise InputError(
            f"{where}, it needs huggingface_hub: `pip install huggingface_hub`"
        ) from None
    cache = Path(constants.HF_HUB_CACHE)
    found = _cached(model, cache)
    if found is None:
        if constants.is_offline_mode():
            raise InputError(
                f"{where}, its weights at {model.revision!r} are not in the cache, {cache}, and "
                f"HF_HUB_OFFLINE forbids a download: {model.download_command}"
            )
        found = _downloaded(model, where)
    return found


def _cached(model: HubName, cache: Path) -> Path | None:
    """Return the folder in the cache that has all weights of a model."""
    found = snapshot(cache, model.repo, model.revision)
    return found if found is not None and _has_weights(found) else None


def _downloaded(model: HubName, where: str) -> Path:
    """Download configuration, tokenizer and weights, of which safetensors are preferred."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        for suffix in ("safetensors", "bin"):
            found = snapshot_download(
                model.repo,
                revision=model.revision,
                allow_patterns=[*_COMPANIONS, f"*.{suffix}"],
                ignore_patterns=[*_OTHERS],
            )
            if _has_weights(Path(found)):
                break
    except GatedRepoError as error:
        raise InputError(
            f"{where}, {model.repo} needs permission: ask for it on its page, then "
            "log in: `hf auth login`"
        ) from error
    except HfHubHTTPError as error:
        raise InputError(
            f"{where}, {model.repo} at {model.revision!r} cannot be downloaded (status "
            f"{error.response.status_code}); check the name and the revision; for a private one "
            "log in: `hf auth login`"
        ) from error
    except OSError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{where}, it cannot be downloaded ({reason}); check the network and the name, or "
            f"download it: {model.download_command}"
        ) from error
    return Path(found)  # without weights, opening it says what is there instead


def _has_weights(folder: Path) -> bool:
    if (folder / CONFIG).is_file():
        return any(folder.glob("adapter_model.*"))
    try:
        return folder.is_dir() and all(file.is_file() for file in all_weights(folder))
    except InputError:
        return False
