"""Upload a model's folder to the Hugging Face Hub, or to the server that HF_ENDPOINT names.

Source: https://huggingface.co/docs/huggingface_hub/guides/upload.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError, StageFailed
from stockpot.storage.weights.adapters import is_adapter, open_adapter
from stockpot.storage.weights.hub_layout import cache_blobs
from stockpot.storage.weights.sources import open_files

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_HIDDEN = [".*", "*/.*"]
# Those of an earlier model in the repository would be loaded with the new ones.
_OLD_WEIGHTS = ["*.safetensors", "*.bin", "*.index.json", "*.index.*.json"]
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token with write access"


def push_model(
    folder: Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Upload all files of a model that are not hidden, in one commit; return its address.

    The repository is created if it does not exist. Weights that it has under other names are
    deleted by the commit; they stay in its history.

    Args:
        folder: of a model or an adapter.
        repository: `name` or `organisation/name`.
        private: whether only those whom its owner permits can see the repository.
        revision: a branch, created if it does not exist; None for the main one.
        message: of the commit.

    Raises:
        InputError: the folder is not a model, the name is not possible, or the Hub refuses it.
        StageFailed: the Hub cannot be reached, or fails.
    """
    check_model(folder)
    try:
        from huggingface_hub import HfApi, constants, get_token
    except ModuleNotFoundError as error:
        raise InputError("push: needs huggingface_hub: `pip install huggingface_hub`") from error
    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set; unset it to upload a model")
    api = HfApi(library_name="stockpot")
    if get_token() is None:
        raise InputError(f"no token for {api.endpoint}; {_LOG_IN}")
    with _in_words(repository, api.endpoint):
        # None keeps the default of the account or organisation.
        whole = api.create_repo(repository, private=private or None, exist_ok=True).repo_id
        if private and not api.repo_info(whole).private:
            raise InputError(
                f"{whole}: exists and is public; nothing was uploaded: make it private in its "
                "settings, or choose another name"
            )
        if revision is not None:
            api.create_branch(whole, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=whole,
            folder_path=folder,
            revision=revision,
            commit_message=message or f"Upload {folder.absolute().name}",
            ignore_patterns=_HIDDEN,
            delete_patterns=_OLD_WEIGHTS,
        )
    return str(commit.commit_url)


def check_model(folder: Path) -> None:
    """Refuse a folder that is not a model, or has links that lead out of it.

    Raises:
        InputError: with the reason.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: must be the folder of a model")
    if is_adapter(folder):
        open_adapter(folder)
    else:
        open_files(folder)
    blobs = cache_blobs(folder)
    allowed = [folder.resolve(), *([blobs] if blobs else [])]
    for path in sorted(folder.rglob("*")):
        if not path.exists():
            raise InputError(f"{path}: is a link that leads nowhere; remove it")
        if not any(path.resolve().is_relative_to(place) for place in allowed):
            raise InputError(
                f"{path}: is a link to {path.resolve()}, outside the model; replace it by a copy"
            )


@contextmanager
def _in_words(repository: str, endpoint: str) -> Iterator[None]:
    """Say in words why the Hub did not do what it was asked for."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The base of all errors of the HTTP library, which differs between versions.
    http_error: type[BaseException] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except InputError:
        raise
    except HFValidationError as error:
        raise InputError(f"{repository}: not the name of a repository: {error}") from error
    except (http_error, OSError, RuntimeError, ValueError) as error:
        # An upload in a thread fails with a RuntimeError that has the reason as its cause.
        reason = error.__cause__ if isinstance(error, RuntimeError) else error
        if isinstance(reason, HfHubHTTPError):
            raise _refused(reason, repository, endpoint) from error
        if isinstance(reason, http_error):
            raise StageFailed(
                f"{endpoint}: cannot be reached ({reason}); check the connection, and HF_ENDPOINT "
                "if it is set"
            ) from error
        said = str(reason or error)
        hint = "; HF_HUB_DISABLE_XET=1 uploads without Xet" if "xet" in said.lower() else ""
        raise StageFailed(f"{repository}: the upload failed: {said}{hint}") from error


def _refused(error: HfHubHTTPError, repository: str, endpoint: str) -> Exception:
    status = error.response.status_code
    said = error.server_message or f"status {status}"
    if status == 401:
        return InputError(f"{endpoint}: does not accept the token ({said}); {_LOG_IN}")
    if status == 403:
        return InputError(
            f"{repository}: the token may not write to it ({said}); use a token with write access, "
            "or a repository of your own"
        )
    if status < 500 and status != 429:
        return InputError(f"{repository}: refused by {endpoint}: {said}")
    return StageFailed(f"{endpoint}: failed with status {status} ({said}); push again later")
