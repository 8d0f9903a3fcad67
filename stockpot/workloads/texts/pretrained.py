"""Pretrained models and tokenizers of transformers, in a folder or on the hub.

Importing this module, and building a `Pretrained`, import neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stockpot.errors import InputError
from stockpot.storage.digests import file_digest
from stockpot.workloads.files import project_path

if TYPE_CHECKING:
    from torch import Generator, nn

Head = Literal["AutoModelForSequenceClassification", "AutoModelForCausalLM"]

_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
_NOT_READ = ("*/*", "consolidated*")  # the same weights in other formats
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


class Pretrained:
    """A pretrained model: its files, its tokenizer, and nets with its weights.

    Args:
        name: a folder, relative to the project's folder, or an id on the hub.

    Raises:
        InputError: transformers is not installed; or the folder lacks a configuration or
            safetensors files.
    """

    def __init__(self, name: str) -> None:
        check_installed("transformers")
        self._name = name
        folder = project_path(name)
        if folder.exists() or not is_hub_id(name):
            _check_files(folder)

    @cached_property
    def folder(self) -> Path:
        """The folder of the files; for an id, in the hub's cache, downloaded if missing.

        Raises:
            InputError: there is no such folder, and the hub has no such model or is unreachable.
        """
        folder = project_path(self._name)
        return folder if folder.exists() else _of_hub(self._name, folder)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the files' names and contents."""
        listed = [f"{path.name} {file_digest(path)}" for path in _model_files(self.folder)]
        return hashlib.sha256("\n".join(listed).encode()).hexdigest()

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer; it pads with the end-of-text token if it has no padding token."""
        from transformers import AutoTokenizer

        with _loading_errors(self.folder), quiet():
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @cached_property
    def longest(self) -> int:
        """The largest number of tokens of a text."""
        of_model = getattr(self._config(), "max_position_embeddings", None)
        return int(min(of_model or 2**31, self.tokenizer.model_max_length))

    def check_length(self, max_length: int) -> int:
        """Return `max_length`, or the limit of the model if it is 0.

        Raises:
            InputError: it is above the limit.
        """
        if max_length > self.longest:
            raise InputError(
                f"workload.options.max_length must be at most {self.longest}, the most that "
                f"{self._name} takes, got {max_length}"
            )
        return max_length or self.longest

    def build(self, head: Head, generator: Generator, **config: Any) -> nn.Module:
        """Build a net in float32 with the pretrained weights; missing ones are random.

        Args:
            head: the class of transformers that builds it.
            generator: seeds the initialisation of the head.
            config: changes of the configuration, such as `num_labels`.

        Raises:
            InputError: the files are not such a model, are quantised, or lack weights of its body.
        """
        import torch
        import transformers

        from stockpot.storage.weights.quantized.dequantized import check_not_quantized
        from stockpot.storage.weights.sources import open_files
        from stockpot.workloads.texts.tied_weights import hold_tied_weights_once

        with quiet():
            settings = self._config(**config, pad_token_id=self.tokenizer.pad_token_id)
        check_not_quantized(open_files(self.folder))
        with _loading_errors(self.folder), quiet(), _seeded_by(generator):
            net, info = getattr(transformers, head).from_pretrained(
                self.folder,
                config=settings,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # a head for other classes, which is initialised
                output_loading_info=True,
            )
        missing = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
        _check_body(self.folder, net, missing)
        hold_tied_weights_once(net)
        built: nn.Module = net
        return built

    def _config(self, **changes: Any) -> Any:
        from transformers import AutoConfig

        with _loading_errors(self.folder):
            return AutoConfig.from_pretrained(self.folder, local_files_only=True, **changes)


def check_installed(package: str) -> None:
    """Check that a package of the optional extra is installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"workload: texts need the package {package}, got none; "
            "install it: `pip install 'stockpot[text]'`"
        )


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of an id on the hub: `name` or `owner/name`."""
    return _HUB_ID.fullmatch(name) is not None


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress bars and expected warnings of transformers."""
    import transformers

    logging: Any = transformers.utils.logging  # it is not typed
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: must be a folder with a model, got none")
    found = [path.name for path in _model_files(folder)]
    if "config.json" not in found or not any(name.endswith(".safetensors") for name in found):
        raise InputError(
            f"{folder}: must have config.json and weights in safetensors files, got "
            f"{found or 'no such files'}; save a model there with its save_pretrained"
        )


def _model_files(folder: Path) -> list[Path]:
    found = {path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.match("consolidated*"))


def _of_hub(name: str, folder: Path) -> Path:
    """Return the folder in the hub's cache; cached files are not updated."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    patterns = {"allow_patterns": [*_FILES], "ignore_patterns": [*_NOT_READ]}
    fetch = partial(snapshot_download, name, **patterns)
    try:
        try:
            found = Path(fetch(local_files_only=True))
            _check_files(found)
        except (OSError, InputError):
            found = Path(fetch())
    except (OSError, HfHubHTTPError) as error:
        raise InputError(
            f"workload.options.model: there must be a folder {folder}, or a model {name!r} on the "
            f"hub or in its cache, got {first_line(error)}; check the name and the network"
        ) from error
    _check_files(found)
    return found


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def _loading_errors(folder: Path) -> Iterator[None]:
    """Convert errors of transformers on damaged or unknown files to `InputError`."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder}: must be a model that transformers can load, got {first_line(error)}"
        ) from error


@contextmanager
def _seeded_by(generator: Generator) -> Iterator[None]:
    """Seed torch's global generator, which transformers uses, by `generator`."""
    import torch

    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _check_body(folder: Path, net: Any, missing: set[str]) -> None:
    """Check that only weights of a head, or of its pooling layer, are missing."""
    prefix = f"{net.base_model_prefix}."
    body = sorted(name for name in missing if name.startswith(prefix) and "pooler" not in name)
    if body:
        raise InputError(
            f"{folder}: its weights must be those of its configuration, got none that fit "
            f"{len(body)} tensors such as {body[0]!r}"
        )
