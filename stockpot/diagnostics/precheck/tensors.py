"""Checks of weights alone: can the models be averaged, and do they share a base?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from stockpot.diagnostics.precheck.check import Check, rounded
from stockpot.diagnostics.states import are_equal
from stockpot.merging.methods.inner_products import task_vector_gram, weight_names
from stockpot.merging.states import State

# A weight was not fine-tuned from the base if its cosine with the base's is below _OWN, while the
# median of the other ingredients' is at least _USUAL.
_OWN = 0.2
_USUAL = 0.5
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def check_tensors(name: str, state: State, base: State) -> list[Check]:
    """Check an ingredient's tensor names, shapes, dtypes, values and integer buffers.

    Args:
        name: of the ingredient.
        state: its tensors.
        base: the tensors of the base.
    """
    differences = list(_differences(state, base))
    shared = [own for own in state if own in base and state[own].shape == base[own].shape]
    bad = sum(int((~torch.isfinite(state[own])).sum()) for own in state)
    integers = [
        own
        for own in shared
        if not state[own].is_floating_point()
        and not own.endswith(_STATISTICS)
        and not torch.equal(state[own], base[own])
    ]
    statistics = [own for own in shared if own.endswith(_STATISTICS)]
    pooled = "normalisation statistics will be pooled" if statistics else "no buffers to reconcile"
    found = {
        "tensors": (
            len(differences),
            differences[0] if differences else "names, shapes and dtypes are the base's",
        ),
        "finite": (bad, f"{bad} values are not finite" if bad else "all values are finite"),
        "buffers": (
            len(integers),
            f"its integer buffer {integers[0]!r} is not the base's" if integers else pooled,
        ),
    }
    return [
        Check(name, check, not count, count, 0, detail) for check, (count, detail) in found.items()
    ]


def check_starts(states: Mapping[str, State], base: State) -> list[Check]:
    """Check that all weights of M ingredients, given by name, were fine-tuned from the base.

    Weights of another initialisation have a cosine near 0 with the base's. So can weights after
    long training, hence the comparison with the other ingredients.
    """
    gram = task_vector_gram([*states.values()], base)
    norms = gram.diagonal().clamp(min=0).sqrt().tolist()
    base_norm = float(sum(base[n].double().square().sum() for n in weight_names(base))) ** 0.5
    weights = [n for n in weight_names(base) if base[n].ndim >= 2 and bool(base[n].any())]
    cosines = {n: [_cosine(state[n], base[n]) for state in states.values()] for n in weights}
    checks = []
    for place, name in enumerate(states):
        detail = (
            f"its task vector is {norms[place] / (base_norm or 1):.2g} times as long as the base, "
            f"{norms[place] / (_others_median(norms, place) or 1):.2g} times as long as the others'"
        )
        strange = [n for n in weights if _is_strange(cosines[n], place)]
        value = min((cosines[n][place] for n in strange or weights), default=1.0)
        if strange:
            lowest = min(strange, key=lambda n: cosines[n][place])
            usual = _others_median(cosines[lowest], place)
            detail = (
                f"its {lowest!r} has a cosine of {value:.2f} with the base's, the others' have "
                f"{usual:.2f}: another start, or far from it; {detail}"
            )
        checks.append(Check(name, "start", not strange, rounded(value), _OWN, detail))
    return checks


def check_duplicates(states: Mapping[str, State]) -> list[Check]:
    """Check that no ingredient equals an earlier one, which would count twice."""
    checks = []
    for place, (name, state) in enumerate(states.items()):
        twin = next((n for n in [*states][:place] if are_equal(states[n], state)), None)
        detail = "no other is equal" if twin is None else f"it is equal to {twin}"
        checks.append(Check(name, "duplicate", twin is None, float(twin is not None), 0, detail))
    return checks


def _differences(state: State, base: State) -> Iterator[str]:
    for name in sorted(state.keys() ^ base.keys()):
        yield f"it lacks {name!r}" if name in base else f"{name!r} is not in the base"
    for name in sorted(state.keys() & base.keys()):
        own, other = state[name], base[name]
        if (own.shape, own.dtype) != (other.shape, other.dtype):
            forms = [f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in (own, other)]
            yield f"{name!r} is {forms[0]}, the base's {forms[1]}".replace("torch.", "")


def _cosine(first: Tensor, second: Tensor) -> float:
    one, other = first.double().flatten(), second.double().flatten()
    return float(functional.cosine_similarity(one, other, dim=0))


def _is_strange(cosines: Sequence[float], place: int) -> bool:
    return len(cosines) > 1 and cosines[place] < _OWN and _others_median(cosines, place) >= _USUAL


def _others_median(values: Sequence[float], place: int) -> float:
    """Return the median of all values but one; of a single value, itself."""
    others = [value for other, value in enumerate(values) if other != place]
    return median(others or values)
