"""Products of posteriors of binary weights.

Source: Li et al. 2023, Statistical mechanics of continual learning: variational principle and
mean-field potential.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.natural_parameters import bernoulli, product
from stockpot.merging.methods.shares import positive_shares

_DATA = ("shared", "disjoint")


def _needs_fields(names: Collection[str], options: Mapping[str, Any]) -> None:
    """Require tensors that are fields."""
    pattern = options.get("fields", "*field")
    if not any(fnmatchcase(name, pattern) for name in names):
        raise ValueError(
            f"posterior_product: needs tensors of fields of binary weights, whose names match "
            f"{pattern!r}, got none among {[*names][:3]}; for ordinary weights use fisher, the "
            "product of their Gaussian posteriors"
        )


@method("posterior_product", check_names=_needs_fields)
def posterior_product(
    tensors: Sequence[Tensor],
    base: Tensor,
    coefficients: Sequence[float],
    *,
    name: str = "",
    fields: str = "*field",
    data: str = "shared",
) -> Tensor:
    """Multiply the posteriors of binary weights, with the prior of all of them counted once.

    A weight is +1 or -1 with the field as half of its log-odds. The product of the models' powers,
    divided by all priors but one, has the field base + sum of powers x (field - base): task
    arithmetic of fields. Tensors that are no fields are averaged.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the prior: the model that they were trained from; same shape and dtype.
        coefficients: M numbers of at least 0, not all 0.
        name: of the tensor.
        fields: pattern of the names of tensors that are fields.
        data: `shared`: the models have seen the same data, which must count once, so the powers
            sum to 1; `disjoint`: each has seen data of its own, so equal powers are 1.

    Returns:
        The merged field, or the mean of other tensors; shape and dtype of the inputs.

    Raises:
        ValueError: an option or a coefficient is out of its range.

    Source: the posterior over fields, which is the next task's prior; powers are an addition.
    """
    if data not in _DATA:
        raise ValueError(f"posterior_product: data must be one of {[*_DATA]}, got {data!r}")
    parts = positive_shares("posterior_product", coefficients)
    is_disjoint_field = data == "disjoint" and fnmatchcase(name, fields)
    powers = [part * len(parts) if is_disjoint_field else part for part in parts]
    # The prior is in every posterior: it is divided out as often as it was counted.
    prior = bernoulli(base, 1 - sum(powers))
    posteriors = [bernoulli(t, power) for t, power in zip(tensors, powers, strict=True)]
    return product([prior, *posteriors])[0]
