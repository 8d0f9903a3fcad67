"""Extract a LoRA adapter from a fully fine-tuned model: the best low-rank part of its changes."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stockpot.disk_merging.adapters.low_rank import factorize
from stockpot.errors import InputError, some_of
from stockpot.storage.atomic_files import write_text
from stockpot.storage.checkpoints import save_checkpoint
from stockpot.storage.digests import digest_in_background, shortened
from stockpot.storage.hub import HubName
from stockpot.storage.model_cards import markdown_table, render_card
from stockpot.storage.weights.adapter_config import CONFIG, AdapterConfig, config_for_peft
from stockpot.storage.weights.adapters import PREFIX, WEIGHTS
from stockpot.storage.weights.hub_origins import shown_name
from stockpot.storage.weights.model_config import read_config
from stockpot.storage.weights.places import check_apart, check_place, publish, sole_place
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import is_head, is_token_embedding, layer_of, tied_names

EXTRACTION = "stockpot.extraction"  # the key of the record in the header's metadata

_WEIGHT = ".weight"
_TABLES = re.compile(r"emb|^w[tp]e$|^shared$|relative_attention_bias")  # in a module's own name
# transformers holds routers as parameters, and experts fused, so that PEFT cannot adapt them.
_MIXTURE = re.compile(r"\.(mlp|block_sparse_moe)\.gate$|\.router$|\.experts\.")
_TRANSPOSED = {"gpt2", "imagegpt", "openai-gpt", "decision_transformer"}  # weights are (in, out)
_TASKS = {"ForCausalLM": "CAUSAL_LM", "LMHeadModel": "CAUSAL_LM"}


@dataclass(frozen=True, slots=True)
class Truncation:
    """How an adapter represents the change of one tensor.

    Attributes:
        rank: of the factors; None if the tensor is stored whole, 0 if its change is left out.
        error: Frobenius norm of the difference from the exact change.
        norm: Frobenius norm of the exact change.
    """

    rank: int | None
    error: float
    norm: float

    @property
    def relative(self) -> float:
        """The error as a fraction of the norm."""
        return self.error / self.norm if self.norm else 0.0


@dataclass(frozen=True)
class LoraExtraction:
    """The extraction of one adapter.

    Attributes:
        finetuned: the fine-tuned model.
        base: the model that it was fine-tuned from, with the same names.
        base_name: of the base, for PEFT and the model card: a path, or a name on the Hub.
        place: the folder of the adapter.
        rank: the largest rank of a module.
        energy: the fraction of a change's squared Frobenius norm that suffices, in (0, 1].
        modules: parts of names (`*` is a wildcard) of the linear layers that get factors; empty
            for all but heads.
        dtype: of the factors.
        saves_rest: whether tensors without factors that differ are stored whole.
        force: whether an adapter that stockpot has written to that place is replaced.
    """

    finetuned: Source
    base: Source
    base_name: str
    place: Path
    rank: int
    energy: float = 1.0
    modules: Sequence[str] = ()
    dtype: torch.dtype = torch.float32
    saves_rest: bool = False
    force: bool = False

    def check(self) -> None:
        """Refuse an extraction that is not possible, before any weight is read.

        Raises:
            InputError: with the reason.
        """
        if self.rank < 1:
            raise InputError(f"--rank must be at least 1, got {self.rank}")
        if not 0 < self.energy <= 1:
            raise InputError(f"--energy must be in (0, 1], got {self.energy}")
        inputs = [*self.finetuned.files, *self.base.files] if self.force else None
        check_place(self.place, inputs)
        if self.place.suffix == ".safetensors":
            raise InputError(f"{self.place}: an adapter is a folder; name one")
        check_apart(self.place, [self.finetuned.folder, self.base.folder])
        _check_alike(self.finetuned, self.base)
        if not self.linear:
            raise InputError(
                f"--modules: no linear layer of {self.base.path} matches {list(self.modules)}; its "
                f"modules are {some_of(self._matrices)}"
            )

    @cached_property
    def names(self) -> list[str]:
        """The names of the floating-point tensors, in the base's order."""
        shared = [name for name in self.base.tensors if name in self.finetuned.tensors]
        return [name for name in shared if self.base.tensors[name].dtype.is_floating_point]

    @cached_property
    def linear(self) -> set[str]:
        """The modules whose changes get factors."""
        if self.modules:
            wanted = [f"*{pattern}*" for pattern in self.modules]
            return {m for m in self._matrices if any(fnmatchcase(m, own) for own in wanted)}
        return {m for m in self._matrices if layer_of(m) is not None or not is_head(m + _WEIGHT)}

    @property
    def _matrices(self) -> list[str]:
        """The modules with a matrix that PEFT can adapt, as far as names tell."""
        modules = [name.removesuffix(_WEIGHT) for name in self.names if name.endswith(_WEIGHT)]
        return [
            module
            for module in modules
            if len(self.base.tensors[module + _WEIGHT].shape) == 2
            and not _TABLES.search(module.rpartition(".")[2])
            and not _MIXTURE.search(module)
        ]

    def run(self) -> Iterator[tuple[str, Truncation]]:
        """Factorise the changes one by one; the folder appears after the last.

        Yields:
            The name of each tensor that differs from the base, and how its change is represented.

        Raises:
            InputError: a value is not finite, no tensor differs, or a tied embedding does.
        """
        self.check()
        with sole_place(self.place):
            self.check()
            digest_in_background([*self.finetuned.files, *self.base.files], "blake3")
            tensors: dict[str, Tensor] = {}
            found: dict[str, Truncation] = {}
            for name in self.names:
                if truncation := self._represent(name, tensors):
                    found[name] = truncation
                    yield name, truncation
            if not any(one.rank for one in found.values()):
                raise InputError(
                    f"{self.finetuned.path}: no linear layer differs from {self.base.path}; there "
                    "is nothing to extract"
                )
            self._write(tensors, found)

    def _represent(self, name: str, tensors: dict[str, Tensor]) -> Truncation | None:
        """Add what represents the change of a tensor to `tensors`; None if there is no change."""
        tuned, before = self.finetuned.read(name), self.base.read(name)
        change = tuned.double() - before.double()
        norm = float(torch.linalg.vector_norm(change))
        if not math.isfinite(norm):
            raise InputError(f"tensor {name!r}: has a value that is not finite")
        if norm == 0:
            return None
        module = name.removesuffix(_WEIGHT)
        if name.endswith(_WEIGHT) and module in self.linear:
            return self._factors(module, change, norm, tensors)
        if not self.saves_rest:
            return Truncation(0, norm, norm)
        self._check_not_tied(name)
        owner, _, field = name.rpartition(".")
        # PEFT wraps the layers that have factors.
        inner = f"{owner}.base_layer.{field}" if owner in self.linear else name
        tensors[PREFIX + inner] = tuned.clone()
        return Truncation(None, 0.0, norm)

    def _check_not_tied(self, name: str) -> None:
        """Refuse to store an embedding whole if the base ties its head, which PEFT leaves as is."""
        shape = self.base.tensors[name].shape
        others = [own for other, own in self.base.tensors.items() if other != name]
        if is_token_embedding(name) and all(own.shape != shape for own in others):
            raise InputError(
                f"--save-rest: {name!r} differs, to which {self.base.path} may tie its head, as it "
                "stores none; extract without it"
            )

    def _factors(
        self, module: str, change: Tensor, norm: float, tensors: dict[str, Tensor]
    ) -> Truncation:
        matrix = change.T if self._is_transposed else change
        a, b = (factor.to(self.dtype) for factor in factorize(matrix, self.rank, self.energy))
        if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
            raise InputError(f"module {module!r}: too large for {self.dtype}; choose a wider dtype")
        error = torch.linalg.vector_norm(matrix - b.double() @ a.double())  # rounding included
        tensors |= {f"{PREFIX}{module}.lora_{side}.weight": f for side, f in (("A", a), ("B", b))}
        return Truncation(len(a), float(error), norm)

    @cached_property
    def _config(self) -> dict[str, Any]:
        return read_config(self.base.folder)

    @property
    def _is_transposed(self) -> bool:
        return self._config.get("model_type") in _TRANSPOSED

    def _peft_config(self, found: Mapping[str, Truncation]) -> dict[str, Any]:
        architecture = str(next(iter(self._config.get("architectures") or []), ""))
        task = next((t for end, t in _TASKS.items() if architecture.endswith(end)), None)
        on_hub = None if Path(self.base_name).exists() else HubName.parse(self.base_name)
        first = AdapterConfig(
            base_model_name_or_path=on_hub.repo if on_hub else self.base_name,
            revision=on_hub.revision if on_hub else "",
            fan_in_fan_out=self._is_transposed,
            task_type=task,
        )
        ranks = {name.removesuffix(_WEIGHT): one.rank for name, one in found.items() if one.rank}
        whole = {name.rpartition(".")[0] for name, one in found.items() if one.rank is None}
        saved = sorted(whole - self.linear)
        bias = "lora_only" if whole & self.linear else "none"
        return config_for_peft(first, ranks) | {"bias": bias, "modules_to_save": saved or None}

    def _write(self, tensors: Mapping[str, Tensor], found: Mapping[str, Truncation]) -> None:
        record = {
            "version": version("stockpot"),
            "finetuned": {"path": str(self.finetuned.path), "digest": self.finetuned.digest},
            "base": {"path": self.base_name, "digest": self.base.digest},
            "rank": self.rank,
            "energy": self.energy,
            "modules": list(self.modules),
            "tensors": {name: asdict(one) for name, one in found.items()},
        }
        work = self.place.with_name(f".{self.place.name}.merging")
        if work.exists():
            shutil.rmtree(work)
        work.mkdir()
        metadata = {"format": "pt", EXTRACTION: json.dumps(record, sort_keys=True)}
        save_checkpoint(work / WEIGHTS, tensors, metadata)
        config = json.dumps(self._peft_config(found), indent=2, sort_keys=True)
        write_text(work / CONFIG, config + "\n")
        write_text(work / "README.md", self._card(found))
        publish(work, self.place)

    def _card(self, found: Mapping[str, Truncation]) -> str:
        rows = [
            (name, "whole" if one.rank is None else str(one.rank), f"{one.relative:.4g}")
            for name, one in found.items()
        ]
        tuned, base = (shortened(model.digest) for model in (self.finetuned, self.base))
        parts = [
            f"Extracted by stockpot {version('stockpot')} from {shown_name(self.finetuned.path)} "
            f"(`{tuned}`), fine-tuned from {Path(self.base_name).name} (`{base}`). Relative "
            f"Frobenius error of the change of all weights: {total_error(found.values()):.4g}.",
            markdown_table(("tensor", "rank", "relative error"), rows),
        ]
        metadata = {"library_name": "peft", "tags": ["stockpot", "lora"]}
        return render_card(metadata, self.place.name, parts)


def total_error(found: Iterable[Truncation]) -> float:
    """Return the relative Frobenius error of several changes together."""
    listed = list(found)
    norm = math.hypot(*(one.norm for one in listed))
    return math.hypot(*(one.error for one in listed)) / norm if norm else 0.0


def _check_alike(finetuned: Source, base: Source) -> None:
    """Refuse models whose tensors differ in name or shape; a tied head may be stored or not."""
    pair = tied_names({**base.tensors, **finetuned.tensors})
    for one, other in ((finetuned, base), (base, finetuned)):
        lacking = [name for name in other.tensors if name not in one.tensors]
        if lacking == [pair[1] if pair else None] and read_config(one.folder).get(
            "tie_word_embeddings", True
        ):
            continue
        if lacking:
            raise InputError(
                f"{one.path}: lacks {some_of(sorted(lacking))}, which {other.path} has; name the "
                "base that it was fine-tuned from"
            )
    for name in base.tensors.keys() & finetuned.tensors.keys():
        own, before = finetuned.tensors[name].shape, base.tensors[name].shape
        if own != before:
            raise InputError(
                f"tensor {name!r}: has shape {own} in {finetuned.path}, {before} in {base.path}; "
                "an adapter cannot change a shape: name the base that it was fine-tuned from"
            )
