"""mergekit's format, converted to ours; what has no counterpart is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from stockpot.disk_merging.merge_file import MergeFile
from stockpot.disk_merging.mergekit.fields import Mergekit, Model, Slice, unknown_fields
from stockpot.disk_merging.mergekit.parameters import Settings, method_of, settings_of
from stockpot.errors import InputError
from stockpot.merging.registry import METHODS
from stockpot.yaml_files import validated

M = TypeVar("M", bound=Model)


def from_mergekit(content: dict[str, Any], file_name: str) -> tuple[dict[str, Any], list[str]]:
    """Convert the content of a file.

    Returns:
        The content in our format, and notes on what was ignored.

    Raises:
        InputError: with everything that is wrong or has no counterpart.
    """
    theirs = validated(Mergekit, content, file_name)
    try:
        return _Conversion(theirs).result()
    except InputError as error:
        raise InputError(f"{file_name}: {error}") from error


class _Conversion:
    """The conversion of one file."""

    def __init__(self, theirs: Mergekit) -> None:
        self._theirs = theirs
        self._notes = [
            f"{field} is ignored: mergekit has no such field" for field in unknown_fields(theirs)
        ]

    def result(self) -> tuple[dict[str, Any], list[str]]:
        """Return the content in our format, and the notes."""
        theirs = self._theirs
        self._check_supported()
        self._method = method_of(theirs.merge_method, theirs.parameters)
        source = theirs.tokenizer.source if theirs.tokenizer else theirs.tokenizer_source
        ours: dict[str, Any] = {
            "method": self._method,
            "base": theirs.base_model if self._takes_base else None,
            "dtype": theirs.out_dtype or theirs.dtype,
            "equal_tokenizers": source == "union",
            "config_from": self._config_from(source),
            "head_depth": 0,
        }
        if theirs.random_seed is not None:
            ours["seed"] = theirs.random_seed
        if theirs.slices:
            ours["layers"] = [self._layers(part) for part in theirs.slices]
        else:
            models = self._ordered(self._with_base(), theirs.base_model)
            settings = self._settings(models)
            ours["models"] = _entries(models, settings)
            ours["options"] = settings.options
        return ours, self._notes

    def _check_supported(self) -> None:
        theirs = self._theirs
        unsupported = [field for field in ("modules", "chat_template") if getattr(theirs, field)]
        if unsupported:
            raise InputError(f"{', '.join(unsupported)}: not supported; remove it")
        own = sorted(set(theirs.model_extra or {}) & set(MergeFile.model_fields))
        if own:
            raise InputError(
                f"{own[0]}: is a field of stockpot's format, which mergekit's lacks; write method, "
                "models and base instead of merge_method, parameters and base_model, or remove it"
            )
        if not theirs.models and not theirs.slices:
            raise InputError("models: is required, got nothing")
        if theirs.models and theirs.slices:
            raise InputError("slices: replace models; remove one of them")

    @property
    def _takes_base(self) -> bool:
        return METHODS[self._method].takes_base

    @property
    def _merges_two(self) -> bool:
        return not self._takes_base and METHODS[self._method].num_models == (2, 2)

    def _config_from(self, tokenizer_source: str | None) -> str | None:
        """Return the model whose config and tokenizer are copied; None for the default."""
        if tokenizer_source not in (None, "base", "union"):
            return tokenizer_source.removeprefix("model:")
        return None if self._takes_base else self._theirs.base_model

    def _with_base(self) -> list[Model]:
        """List the models, with the base if mergekit merges it like the others.

        It does so for every method without task vectors, if the base has a weight where the method
        takes weights: that of all models.
        """
        theirs = self._theirs
        listed = theirs.models or []
        if theirs.base_model is None or theirs.base_model in {model.model for model in listed}:
            return listed
        is_weighted = self._method == "karcher" or "weight" in theirs.parameters
        if self._merges_two or (not self._takes_base and is_weighted):
            return [*listed, Model(model=theirs.base_model)]
        return listed

    def _ordered(self, listed: Sequence[M], base: str | None) -> list[M]:
        """Return the models in the order in which they are merged.

        Methods of two models without a base start from the one that mergekit calls the base.
        """
        named = [model for model in listed if model.model == base]
        others = [model for model in listed if model.model != base]
        if self._takes_base:
            return others or named  # the base itself would dilute the mean
        return [*named, *others] if self._merges_two else list(listed)

    def _layers(self, part: Slice) -> dict[str, Any]:
        """Convert a slice; mergekit interpolates parameters of the file over its depth too."""
        if part.residual_weight is not None:
            self._notes.append("residual_weight is ignored, as in mergekit")
        base = part.base_model or self._theirs.base_model
        if self._takes_base and base != self._theirs.base_model:
            raise InputError(
                f"slices: base_model must be that of the file ({self._theirs.base_model}) for "
                f"{self._method}, got {base}; one base per merge is supported"
            )
        sources = self._ordered(part.sources, base)
        ranges = [source.layer_range for source in part.sources if source.model == base]
        if self._takes_base and any(own != sources[0].layer_range for own in ranges):
            raise InputError(
                "slices: layers of the base must be those of the first model, got "
                f"{list(ranges[0])} and {list(sources[0].layer_range)}"
            )
        settings = self._settings(sources, part)
        entries = _entries(sources, settings)
        for source, entry in zip(sources, entries, strict=True):
            entry["range"] = source.layer_range
        return {"models": entries, "options": settings.options}

    def _settings(self, models: Sequence[Model], part: Slice | None = None) -> Settings:
        outer = [*([part.parameters] if part else []), self._theirs.parameters]
        settings = settings_of(self._method, models, outer)
        self._notes += settings.notes
        return settings


def _entries(models: Sequence[Model], settings: Settings) -> list[dict[str, Any]]:
    """Return the entries of the models in our format."""
    return [
        {"path": model.model, "coefficient": weight, "options": options}
        for model, weight, options in zip(models, settings.weights, settings.of_models, strict=True)
    ]
