"""Tokenizers in the folders of models, and the one of the output."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from stockpot.disk_merging.side_files.companions import Companions, find_companions
from stockpot.errors import InputError, some_of
from stockpot.storage.weights.hub_origins import shown_name

_FILES = re.compile(
    r"tokenizer\.(json|model)(\.v\d+)?|tokenizer_config\.json|special_tokens_map\.json"
    r"|added_tokens\.json|vocab\.(json|txt)|merges\.txt|(spiece|sentencepiece\.bpe)\.model"
    r"|(source|target)\.spm|tekken\.json|.*\.tiktoken|tokenization_\w+\.py"
    r"|chat_template\.(jinja|json)|additional_chat_templates/.*"
)
_VOCABULARY = re.compile(
    r"tokenizer\.(json|model)(\.v\d+)?|vocab\.(json|txt)|.*\.(model|spm|tiktoken)|tekken\.json"
)


def is_of_tokenizer(name: str) -> bool:
    """Return whether a file is part of a tokenizer, by its path in the model's folder."""
    return _FILES.fullmatch(name) is not None


def has_tokenizer(folder: Path | None) -> bool:
    """Return whether a folder has a vocabulary."""
    return (
        folder is not None
        and folder.is_dir()
        and any(_VOCABULARY.fullmatch(path.name) for path in folder.iterdir())
    )


def tokenizer_folder(*folders: Path | None) -> Path | None:
    """Return the first folder that has a tokenizer."""
    return next((folder for folder in folders if has_tokenizer(folder)), None)


@dataclass(frozen=True)
class ModelTokenizer:
    """The tokenizer of a model.

    Attributes:
        folder: that it is in.
        loaded: the tokenizer of transformers.
    """

    folder: Path
    loaded: Any

    @classmethod
    def load(cls, folder: Path) -> ModelTokenizer:
        """Load it from the files of the folder; no code of the model is run.

        Raises:
            InputError: transformers is not installed, or it cannot read the files.
        """
        if importlib.util.find_spec("transformers") is None:
            raise InputError(
                "tokenizer: needs the package transformers, got none; install it: `pip install "
                "'stockpot[text]'`"
            )
        from transformers import AutoTokenizer

        try:
            with _quiet():
                loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # Readers of many formats raise errors of many kinds.
        except Exception as error:
            raise InputError(
                f"{folder}: its tokenizer cannot be read by transformers ({error}); mend its files "
                "or save it again with save_pretrained"
            ) from error
        return cls(folder, loaded)

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """The id of each token, in the order of the ids."""
        vocabulary: dict[str, int] = self.loaded.get_vocab()
        return dict(sorted(vocabulary.items(), key=lambda pair: pair[1]))

    @property
    def added(self) -> dict[str, Any]:
        """The tokens that are matched before the text is split, with their settings."""
        return {token.content: token for token in self.loaded.added_tokens_decoder.values()}

    def with_tokens(self, tokens: Sequence[Any]) -> OutputTokenizer:
        """Return the tokenizer of the output.

        Args:
            tokens: that are added, in this order, as text or with the settings of an added token.
        """
        if not tokens:
            return OutputTokenizer(self.folder, self.loaded, ())
        changed = ModelTokenizer.load(self.folder).loaded  # this one is not changed
        changed.add_tokens(list(tokens))  # all at once: each call takes time for all tokens
        new = [name for name in map(str, tokens) if name not in self.ids]
        return OutputTokenizer(self.folder, changed, tuple(new), has_changed=True)


@dataclass(frozen=True)
class OutputTokenizer(ModelTokenizer):
    """The tokenizer of the output: that of a model, perhaps with further tokens.

    Attributes:
        new: the tokens that the model's lacks.
        has_changed: whether it differs from the model's.
    """

    new: tuple[str, ...] = ()
    has_changed: bool = False

    @property
    def note(self) -> str:
        """Where it comes from."""
        names = some_of([repr(token) for token in self.new])
        added = f", with {len(self.new)} more tokens: {names}" if self.new else ""
        return f"tokenizer: that of {shown_name(self.folder)}{added}"

    def among(self, companions: Companions) -> Companions:
        """Replace the files of another tokenizer among those that are copied."""
        others = companions.without(is_of_tokenizer)
        if self.has_changed:
            return others
        own = find_companions(self.folder).files
        tokenizer = {name: file for name, file in own.items() if is_of_tokenizer(name)}
        return replace(others, files={**others.files, **tokenizer})

    def write(self, folder: Path) -> None:
        """Write its files, unless they are copied."""
        if self.has_changed:
            with _quiet():
                self.loaded.save_pretrained(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what transformers prints about tokenizers."""
    import transformers

    logging: Any = transformers.utils.logging  # it is not typed
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
