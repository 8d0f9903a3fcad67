"""Models of one architecture whose writers named or laid out their tensors differently."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from stockpot.storage.weights.hub_origins import shown_name
from stockpot.storage.weights.model_config import read_config
from stockpot.storage.weights.rearranged import Part, Parts, rearranged
from stockpot.storage.weights.sources import Source

# What torch.compile, FSDP and checkpointing of activations put between modules.
_WRAPPER = re.compile(r"(?:^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_DATA_PARALLEL = "module."
# Of whole nets; others may distinguish parts, such as encoder and decoder, and are not replaced.
_OUTER = {"backbone.", "base_model.", "model.", "module.", "net.", "transformer."}
_OLD_NORM = re.compile(r"(?P<norm>(?:^|\.)[^.]*norm[^.]*)\.(?P<kind>gamma|beta)$", re.IGNORECASE)
_NEW_KIND = {"gamma": "weight", "beta": "bias"}

_FUSED = re.compile(r"(?P<block>.+)\.experts\.(?P<kind>(gate_)?up_proj|down_proj)$")
_SINGLE = re.compile(r"(?P<block>.+)\.experts\.(?P<number>\d+)\.(?P<kind>\w+)\.weight$")
# The linear layers of an expert, in Mixtral's names and in Qwen's: gate, up, down.
_LAYERS = (("w1", "w3", "w2"), ("gate_proj", "up_proj", "down_proj"))
_PLACES = {"gate_up_proj": (0, 1), "up_proj": (1,), "down_proj": (2,)}  # of layers in fused ones
_BLOCKS = ("block_sparse_moe", "mlp")  # in Mixtral's names and in those of transformers 5
# Their fused experts are stored as (experts, in, out), which is no reordering of whole rows.
_TRANSPOSED = ("aria", "gpt_oss", "llama4", "openai_privacy_filter", "qwen3_vl_moe")


def named_like(model: Source, reference: Source) -> Source:
    """View a model under the names of another one, where one rule explains all that differ.

    The rules: wrappers (`module.`, `_orig_mod.`) and an outer prefix are added or removed; gamma
    and beta of normalisations are weight and bias; the experts of a mixture are stored one by one
    or fused, in Mixtral's names or in Qwen's. None of them changes a value.

    Args:
        model: the model that is read.
        reference: the model whose names the output has.

    Returns:
        A view with a note; the model itself if no rule applies. Tensors that the reference lacks
        keep their names.

    Source: `conversion_mapping.py` of transformers 5, for gamma, beta and experts.
    """
    if model.tensors.keys() == reference.tensors.keys():
        return model
    theirs, own = _plain_names(reference.tensors), _plain_names(model.tensors)
    own = _with_prefix_of(theirs, own)
    parts: dict[str, Parts] = {}
    for plain, name in theirs.items():
        if plain in own:
            parts[name] = (_whole(model, own[plain]),)
        elif found := _experts(plain, reference.tensors[name].shape, model, own):
            parts[name] = found
    renamed = [name for name, found in parts.items() if found[0].name != name]
    if not renamed or (_is_split(model, parts) and not _lays_out_rows(model, reference)):
        return model
    used = {part.name for found in parts.values() for part in found}
    rest = {name: (_whole(model, name),) for name in model.tensors if name not in used}
    if rest.keys() & parts.keys():
        return model  # two rules would give two tensors one name
    shapes = {
        name: reference.tensors[name].shape
        for name, found in parts.items()
        if len(found) > 1 or found[0] != _whole(model, found[0].name)
    }
    example = renamed[0]
    note = (
        f"{'1 tensor is' if len(renamed) == 1 else f'{len(renamed)} tensors are'} named as in "
        f"{shown_name(reference.path)}: {example!r} is "
        f"read from {parts[example][0].name!r}"
    ) + (f"; {len(shapes)} hold or are parts of fused experts" if shapes else "")
    return rearranged(model, parts | rest, shapes, note)


def rename_hint(model: Source, other: Source) -> str:
    """Say what may reconcile the names of two models; empty if nothing is alike.

    Args:
        model: one model.
        other: another one, which lacks some of its tensors or has further ones.
    """
    missing = sorted(model.tensors.keys() - other.tensors.keys())
    further = sorted(other.tensors.keys() - model.tensors.keys())
    experts = [next((n for n in names if ".experts." in n), None) for names in (missing, further)]
    if all(experts):
        return (
            f"their experts are laid out in two ways ({experts[0]!r}, {experts[1]!r}): save both "
            "again with save_pretrained of one version of transformers"
        )
    for name in missing[:1]:
        shape = model.tensors[name].shape
        alike = [one for one in further if other.tensors[one].shape == shape]
        if close := get_close_matches(name, alike, 1):
            one, two = shown_name(model.path), shown_name(other.path)
            return f"perhaps {name!r} in {one} is {close[0]!r} in {two}"
    return ""


def _plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return the names by their plain forms, without wrappers and with the new names of norms."""
    listed = list(names)
    is_parallel = all(name.startswith(_DATA_PARALLEL) for name in listed)
    plain = {}
    for name in listed:
        bare = _WRAPPER.sub("", name.removeprefix(_DATA_PARALLEL) if is_parallel else name)
        plain[_OLD_NORM.sub(lambda m: f"{m['norm']}.{_NEW_KIND[m['kind'].lower()]}", bare)] = name
    return plain if len(plain) == len(listed) else {name: name for name in listed}


def _with_prefix_of(theirs: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Add, remove or replace the outer prefix that distinguishes the plain names of one model."""
    lacking, further = theirs.keys() - own.keys(), own.keys() - theirs.keys()
    if prefix := _prefix(further, lacking):
        return {
            prefix + plain if plain in further and _is_inside(plain, prefix, lacking) else plain: n
            for plain, n in own.items()
        }
    if prefix := _prefix(lacking, further):
        return {
            plain.removeprefix(prefix) if plain in further else plain: n for plain, n in own.items()
        }
    outer = {plain.partition(".")[0] + "." for plain in further}
    if (
        len(outer) == 1
        and outer < _OUTER
        and not own.keys() & {plain.partition(".")[2] for plain in further}
    ):
        (first,) = outer
        bare = {p.removeprefix(first) if p in further else p: n for p, n in own.items()}
        if _prefix(bare.keys() - theirs.keys(), lacking) in _OUTER:
            return _with_prefix_of(theirs, bare)
    return dict(own)


def _is_inside(plain: str, prefix: str, lacking: Iterable[str]) -> bool:
    return prefix + plain in set(lacking) or _is_of_mixture(plain)


def _prefix(shorter: Iterable[str], longer: Iterable[str]) -> str:
    """Return the prefix that turns the shorter names into the longer ones; empty for none.

    It must explain all names of one side, and no name may have two.
    """
    short = {name for name in shorter if not _is_of_mixture(name)}
    long = {name for name in longer if not _is_of_mixture(name)}
    found: dict[str, set[str]] = {}
    for name in long:
        for place in (m.end() for m in re.finditer(r"\.", name)):
            if name[place:] in short:
                found.setdefault(name[place:], set()).add(name[:place])
    counts = Counter(prefix for own in found.values() for prefix in own)
    if not counts or any(len(own) > 1 for own in found.values()):
        return ""
    (prefix, count), *_ = counts.most_common(1)
    explained = {count} & {len(short), sum(name.startswith(prefix) for name in long)}
    return prefix if explained else ""


def _is_of_mixture(name: str) -> bool:
    return ".experts." in name or f".{_BLOCKS[0]}." in name


def _experts(
    plain: str, shape: tuple[int, ...], model: Source, own: Mapping[str, str]
) -> Parts | None:
    """Return the parts of a tensor of a mixture of experts, which the model stores otherwise."""
    for block in _BLOCKS:
        other = _BLOCKS[block == _BLOCKS[0]]
        renamed = plain.replace(f".{block}.", f".{other}.")
        for name in dict.fromkeys((plain, renamed)):
            if found := _of_experts(name, shape, model, own):
                return found
    return None


def _of_experts(
    name: str, shape: tuple[int, ...], model: Source, own: Mapping[str, str]
) -> Parts | None:
    if name in own:
        return (_whole(model, own[name]),)
    if (fused := _FUSED.fullmatch(name)) and len(shape) == 3:
        return _from_singles(fused["block"], fused["kind"], shape, model, own)
    if (single := _SINGLE.fullmatch(name)) and len(shape) == 2:
        return _from_other(single, shape, model, own)
    return None


def _from_singles(
    block: str, kind: str, shape: tuple[int, ...], model: Source, own: Mapping[str, str]
) -> Parts | None:
    """Fuse experts: (experts, 2 * hidden, in) holds gate above up, (experts, in, hidden) down."""
    places = _PLACES[kind]
    for layers in _LAYERS:
        names = [
            own.get(f"{block}.experts.{number}.{layers[place]}.weight", "")
            for number in range(shape[0])
            for place in places
        ]
        if not names or not all(names):
            continue
        expected = (shape[1] // len(places), shape[2])
        stored = [model.tensors[name] for name in names]
        if {(one.shape, one.dtype) for one in stored} == {(expected, stored[0].dtype)}:
            return tuple(_whole(model, name) for name in names)
    return None


def _from_other(
    single: re.Match[str], shape: tuple[int, ...], model: Source, own: Mapping[str, str]
) -> Parts | None:
    """Take an expert's layer out of the fused ones, or from under its other name."""
    block, number, kind = single["block"], int(single["number"]), single["kind"]
    place = next((layers.index(kind) for layers in _LAYERS if kind in layers), None)
    if place is None:
        return None
    for layers in _LAYERS:
        name = own.get(f"{block}.experts.{number}.{layers[place]}.weight")
        if name is not None:
            return (_whole(model, name),)
    for fused, places in _PLACES.items():
        name = own.get(f"{block}.experts.{fused}")
        if name is None or place not in places:
            continue
        stored = model.tensors[name].shape
        fits = stored[1:] == (shape[0] * len(places), shape[1])
        if fits and number < stored[0]:
            size = shape[0] * shape[1]
            first = (number * len(places) + places.index(place)) * size
            return (Part(name, first, first + size),)
    return None


def _whole(model: Source, name: str) -> Part:
    return Part(name, 0, model.tensors[name].num_elements)


def _is_split(model: Source, parts: Mapping[str, Parts]) -> bool:
    """Return whether a tensor consists of several, or of a part of one."""
    return any(
        len(found) > 1 or found[0] != _whole(model, found[0].name) for found in parts.values()
    )


def _lays_out_rows(*models: Source) -> bool:
    """Return whether fused experts are stored as (experts, out, in) in these architectures."""
    types = {str(read_config(model.folder).get("model_type", "")) for model in models}
    return not any(kind.startswith(_TRANSPOSED) for kind in types)
