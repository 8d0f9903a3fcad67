"""The tokens of a merged model: rows of its embeddings, tokenizer, chat template, special ids."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot.disk_merging.configs.truth import TrueConfig
from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.disk_merging.side_files.companions import Companions
from stockpot.disk_merging.vocabulary.building import Vocabulary, vocabulary_of
from stockpot.disk_merging.vocabulary.chat_templates import chat_template_of, write_chat_template
from stockpot.disk_merging.vocabulary.rows import Rows
from stockpot.disk_merging.vocabulary.token_ids import set_token_ids
from stockpot.errors import InputError
from stockpot.storage.weights.model_config import read_json_mapping
from stockpot.storage.weights.sources import Source

_GENERATION = "generation_config.json"


@dataclass(frozen=True)
class OutputTokens:
    """Notes on tokens in the weights of the output and in the files next to them.

    Attributes:
        vocabulary: of the output; None if rows keep their ids and the tokenizer is copied.
        template: the chat template; None if it is that of the tokenizer.
        file: the merge.
    """

    vocabulary: Vocabulary | None
    template: str | None
    file: MergeFile

    @classmethod
    def of(
        cls,
        file: MergeFile,
        folder: Path,
        sources: Sequence[Source],
        base: Source | None,
    ) -> OutputTokens:
        """Read tokenizers and chat templates of the models.

        Args:
            file: the merge.
            folder: of the merge file.
            sources: the models, in the order of the file's entries.
            base: the base, opened.

        Raises:
            InputError: a tokenizer or a chat template cannot be read, or a token has no source.
        """
        vocabulary = vocabulary_of(file, folder, sources, base)
        template = None
        if file.chat_template is not None:
            models = [*([] if base is None else [base]), *sources]
            template = chat_template_of(file.chat_template, folder, models)
        return cls(vocabulary, template, file)

    @property
    def rows(self) -> Rows | None:
        """Where the rows of embeddings come from; None: they keep their ids."""
        return None if self.vocabulary is None else self.vocabulary.rows

    @property
    def digest(self) -> str | None:
        """The key of the tokenizers' part in the weights, hex; None if they have none."""
        return None if self.vocabulary is None else self.vocabulary.digest

    @property
    def record(self) -> dict[str, Any]:
        """The part of the pedigree that is about tokens, besides the merge file's."""
        if self.digest is None:
            return {}
        content = self.file.model_dump(mode="json", include={"config_from"})
        return content | {"vocabulary": self.digest}

    @property
    def notes(self) -> list[str]:
        """Where tokens and rows come from."""
        notes = [] if self.vocabulary is None else self.vocabulary.all_notes
        if self.file.chat_template and self.template is None:
            notes.append("chat_template: auto has no effect: no model has one")
        return notes

    def among(self, companions: Companions | None) -> Companions | None:
        """Replace the tokenizer among the files that are copied.

        Raises:
            InputError: nothing is copied next to the weights.
        """
        if companions is None and (self.vocabulary or self.template):
            field = "tokenizer" if self.vocabulary else "chat_template"
            raise InputError(
                f"{field}: needs a folder for the merged model, of models that are folders; a "
                "single file has no place for it"
            )
        if companions is None or self.vocabulary is None:
            return companions
        return self.vocabulary.tokenizer.among(companions)

    def with_ids(
        self, configs: Mapping[str, TrueConfig], companions: Companions | None
    ) -> dict[str, TrueConfig]:
        """Give special tokens the ids of the output's tokenizer, in all configurations.

        Args:
            configs: by their path in the folder.
            companions: that are copied, with generation_config.json if there is one.
        """
        if self.vocabulary is None or companions is None:
            return dict(configs)
        former, tokenizer = self.vocabulary.former, self.vocabulary.tokenizer
        held = dict(configs)
        if path := companions.files.get(_GENERATION):
            held[_GENERATION] = TrueConfig(read_json_mapping(path), [])
        changed = {}
        for path_in_folder, config in held.items():
            content = copy.deepcopy(config.content)
            notes = set_token_ids(content, former, tokenizer)
            notes = [f"{path_in_folder}: {note}" for note in notes]
            changed[path_in_folder] = TrueConfig(content, [*config.notes, *notes])
        return changed

    def write(self, folder: Path) -> None:
        """Write tokenizer and chat template, once the other files have been copied."""
        if self.vocabulary is not None:
            self.vocabulary.tokenizer.write(folder)
        if self.template is not None:
            write_chat_template(self.template, folder)
