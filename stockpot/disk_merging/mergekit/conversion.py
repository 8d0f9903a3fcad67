"""mergekit's format, converted to ours; what has no counterpart is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.disk_merging.mergekit.fields import (
    Mergekit,
    Model,
    Module,
    Slice,
    unknown_fields,
)
from stockpot.disk_merging.mergekit.parameters import Settings, method_of, settings_of
from stockpot.errors import InputError, unknown_name
from stockpot.merging.registry import METHODS
from stockpot.yaml_files import validated

M = TypeVar("M", bound=Model)


def is_mergekit(content: Mapping[str, Any]) -> bool:
    """Return whether a merge file has mergekit's format, not ours."""
    return any(field in content for field in ("merge_method", "slices", "modules"))


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
        if self._method not in METHODS:
            raise InputError(f"merge_method: {unknown_name('merge method', self._method, METHODS)}")
        ours: dict[str, Any] = {
            "method": self._method,
            "base": theirs.base_model if self._takes_base else None,
            "dtype": theirs.out_dtype or theirs.dtype,
            "tokenizer": self._tokenizer(),
            "chat_template": theirs.chat_template or None,
            "config_from": None if self._takes_base else theirs.base_model,
            "head_depth": 0,
        }
        if theirs.random_seed is not None:
            ours["seed"] = theirs.random_seed
        if theirs.modules:
            return ours | self._modules(theirs.modules), self._notes
        return ours | self._merged(theirs), self._notes

    def _check_supported(self) -> None:
        theirs = self._theirs
        if theirs.tokenizer and theirs.tokenizer_source:
            raise InputError("tokenizer: replaces tokenizer_source; remove one of them")
        own = sorted(set(theirs.model_extra or {}) & set(MergeFile.model_fields))
        if own:
            raise InputError(
                f"{own[0]}: is a field of stockpot's format, which mergekit's lacks; write method, "
                "models and base instead of merge_method, parameters and base_model, or remove it"
            )
        parts: list[Mergekit | Module] = [theirs, *(theirs.modules or {}).values()]
        for part in parts:
            if part.models and part.slices:
                raise InputError("slices: replace models; remove one of them")
        given = [part for part in parts if part.models or part.slices]
        if theirs.modules and (len(given) < len(parts) - 1 or theirs in given):
            raise InputError(
                "modules: each must have models or slices, and the file neither, which modules "
                "replace"
            )
        if not given:
            raise InputError("models: is required, got nothing")

    @property
    def _takes_base(self) -> bool:
        return METHODS[self._method].takes_base

    @property
    def _merges_two(self) -> bool:
        return not self._takes_base and METHODS[self._method].num_models == (2, 2)

    def _tokenizer(self) -> dict[str, Any] | None:
        """Convert the tokenizer, whose fields are the same."""
        theirs = self._theirs
        if theirs.tokenizer is not None:
            return theirs.tokenizer.model_dump()
        return {"source": theirs.tokenizer_source} if theirs.tokenizer_source else None

    def _merged(self, part: Mergekit | Module) -> dict[str, Any]:
        """Convert the models or the slices of the file or of a module."""
        inner = [part.parameters] if isinstance(part, Module) else []
        if part.slices:
            return {"layers": [self._layers(one, inner) for one in part.slices]}
        models = self._ordered(self._with_base(part.models or []), self._theirs.base_model)
        settings = self._settings(models, inner)
        return {"models": _entries(models, settings), "options": settings.options}

    def _modules(self, modules: Mapping[str, Module]) -> dict[str, Any]:
        """Convert modules, of which one may be sliced; the others are merged like its first slice.

        Raises:
            InputError: they are merged in different ways.
        """
        merged = {name: self._merged(module) for name, module in modules.items()}
        sliced = [name for name, module in modules.items() if module.slices]
        if len(sliced) > 1:
            raise InputError(f"modules: one may have slices, got {sliced}; the others need models")
        first = sliced[0] if sliced else next(iter(merged))
        ours = merged.pop(first)
        expected = _without_ranges(ours["layers"][0] if sliced else ours)
        for name, other in merged.items():
            if other != expected:
                raise InputError(
                    f"modules.{name}: models and parameters must be those of "
                    f"{f'the first slice of {first}' if sliced else first}, got {other} instead of "
                    f"{expected}"
                )
        return ours | ({"stack": first} if sliced and len(modules) > 1 else {})

    def _with_base(self, listed: list[Model]) -> list[Model]:
        """List the models, with the base if mergekit merges it like the others.

        It does so for every method without task vectors, if the base has a weight where the method
        takes weights: that of all models.
        """
        theirs = self._theirs
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

    def _layers(self, part: Slice, outer: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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
        settings = self._settings(sources, [part.parameters, *outer])
        entries = _entries(sources, settings)
        for source, entry in zip(sources, entries, strict=True):
            entry["range"] = source.layer_range
        return {"models": entries, "options": settings.options}

    def _settings(self, models: Sequence[Model], inner: Sequence[Mapping[str, Any]]) -> Settings:
        settings = settings_of(self._method, models, [*inner, self._theirs.parameters])
        self._notes += settings.notes
        return settings


def _entries(models: Sequence[Model], settings: Settings) -> list[dict[str, Any]]:
    """Return the entries of the models in our format."""
    return [
        {"path": model.model, "coefficient": weight, "options": options}
        for model, weight, options in zip(models, settings.weights, settings.of_models, strict=True)
    ]


def _without_ranges(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of layers as one of whole models."""
    models = [
        {name: value for name, value in model.items() if name != "range"}
        for model in part["models"]
    ]
    return {"models": models, "options": part["options"]}
