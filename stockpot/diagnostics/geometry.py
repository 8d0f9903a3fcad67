"""Similarity of the representations of ingredients and soups, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from stockpot.diagnostics.cka import kernel
from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.layers import watched_outputs, weighted_layers
from stockpot.workloads.batch_norm import batch_norms
from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.responses import unit_rows

_PROBE = 256  # examples of val
_MAX_LAYERS = 16  # each takes 256 KB of memory per model
_COLLAPSED = 0.5  # share of the ingredients' variance: less is worth a repair
_APART = 0.5  # CKA: with less, representations differ more than they agree


@dataclass(frozen=True, slots=True)
class Representation:
    """The activations of one model on the probe.

    Attributes:
        kernels: centred kernel by layer, as of `cka.kernel`, in float32; (N * N,).
        variances: variance by layer, the sum over its units or channels.
    """

    kernels: dict[str, Tensor] = field(default_factory=dict)
    variances: dict[str, float] = field(default_factory=dict)


def geometry(context: DiagnosticContext) -> Finding:
    """Compare the layers' outputs of all models on the same examples of val.

    Source: CKA as in `cka.py`; layer against layer, inputs and targets as in Alleman et al. 2023,
    https://arxiv.org/abs/2401.13558, whose claims on activation functions are not ours;
    variances as in Jordan et al. 2022, https://arxiv.org/abs/2211.08403.
    """
    batch = context.probe("val", _PROBE)
    if len(batch[-1]) < 4:
        return Finding(
            f"Val has {len(batch[-1])} examples; a comparison of representations needs 4."
        )
    net = context.net(context.base.weights)
    layers = weighted_layers(context.workload, net, batch, at_most=_MAX_LAYERS)
    if not layers:
        return Finding("The net has no module with weights, so there are no layers to compare.")
    data = {
        "probe": len(batch[-1]),
        "layers": layers,
        "has_batch_norm": bool(batch_norms(net)),
        "best_soup": context.best_soup.name if context.soups else None,
    } | _compare(context, batch, layers)
    return Finding(_sentence(data), _metrics(data), data)


def _compare(context: DiagnosticContext, batch: Batch, layers: Sequence[str]) -> dict[str, Any]:
    """Return the CKA of each pair of ingredients, and one row per model, layer by layer."""
    models = [context.base, *context.ingredients, *context.soups]
    seen = [
        represent(context.workload, context.net(model.weights), batch, layers) for model in models
    ]
    similar = torch.stack([_similarities(seen, layer) for layer in layers])  # (L, K, K)
    known = references(batch)
    names = [one.name for one in context.ingredients]
    pairs = similar[:, 1 : 1 + len(names), 1 : 1 + len(names)]
    rows = []
    for place, (model, own) in enumerate(zip(models, seen, strict=True)):
        parents = [1 + names.index(name) for name in _parents(model, names)]
        row = {"name": model.name, "kind": model.model.kind} | _to_references(own, known)
        row["ingredients"] = _rounded(similar[:, place, parents].mean(dim=1)) if parents else None
        if place > len(names):
            row["variance_ratio"] = variance_ratios(own, [seen[parent] for parent in parents])
        rows.append(row)
    return {
        "ingredients": names,
        "pairs": {
            "mean": [*map(_rounded, pairs.mean(dim=0))],
            "layers": {n: [*map(_rounded, of_n)] for n, of_n in zip(layers, pairs, strict=True)},
        },
        "models": rows,
    }


def represent(
    workload: Workload, net: nn.Module, batch: Batch, layers: Sequence[str]
) -> Representation:
    """Run a net once and record the named layers, in their last run if they run several times."""
    representation = Representation()

    def note(name: str, layer: nn.Module, _inputs: Tensor, outputs: Tensor) -> None:
        representation.kernels[name] = kernel(outputs).float()
        variances = unit_rows(layer, outputs).var(dim=1, correction=0)
        representation.variances[name] = float(variances.sum())

    watched_outputs(workload, net, batch, layers, note)
    return representation


def references(batch: Batch) -> dict[str, Tensor]:
    """Return the kernels of inputs and targets; classes are one-hot.

    Token ids have no geometry, so they get no kernel.
    """
    inputs, targets = batch[0], batch[-1]
    found = {"inputs": inputs} if inputs.is_floating_point() else {}
    if targets.is_floating_point():
        found["targets"] = targets.reshape(len(targets), -1)
    elif targets.ndim == 1:
        found["targets"] = (targets[:, None] == torch.unique(targets)).float()  # (N, C)
    return {name: kernel(tensor).float() for name, tensor in found.items()}


def variance_ratios(
    soup: Representation, ingredients: Sequence[Representation]
) -> list[float | None]:
    """Return the variance of each layer of a soup divided by the ingredients' mean variance.

    None for layers that do not vary in any ingredient.
    """
    means = {layer: fmean(one.variances[layer] for one in ingredients) for layer in soup.variances}
    return [round(soup.variances[n] / mean, 4) if mean > 0 else None for n, mean in means.items()]


def _similarities(seen: Sequence[Representation], layer: str) -> Tensor:
    """Return the CKA of each pair of models in a layer; (K, K)."""
    stacked = torch.stack([one.kernels[layer] for one in seen])
    product: Tensor = stacked @ stacked.T
    return product.double().cpu()


def _parents(model: LoadedModel, names: Sequence[str]) -> list[str]:
    """Name the ingredients of a soup; for other models, all other ingredients."""
    coefficients: Mapping[str, float] = model.model.details.get("coefficients", {})
    mixed = [name for name in names if coefficients.get(name)]
    return mixed or [name for name in names if name != model.name]


def _to_references(own: Representation, known: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the CKA to inputs and to targets, layer by layer; None without a kernel."""
    return {
        name: [round(float(layer @ known[name]), 4) for layer in own.kernels.values()]
        if name in known
        else None
        for name in ("inputs", "targets")
    }


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def _metrics(data: Mapping[str, Any]) -> dict[str, float]:
    """Return mean CKA of the ingredients, and the best soup's lowest CKA and variance ratio."""
    metrics = {}
    if len(data["ingredients"]) > 1:
        metrics["cka_of_ingredients"] = fmean(_by_layer(data).values())
    for soup in _best_soup(data):
        metrics["cka_of_soup"] = min(soup["ingredients"])
        ratios = [ratio for ratio in soup["variance_ratio"] if ratio is not None]
        metrics |= {"variance_ratio": min(ratios)} if ratios else {}
    return metrics


def _best_soup(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the row of the best soup; [] without soups."""
    return [row for row in data["models"] if row["name"] == data["best_soup"]]


def _by_layer(data: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean CKA of two different ingredients in each layer."""
    count = len(data["ingredients"])
    return {
        layer: (sum(map(sum, matrix)) - sum(matrix[i][i] for i in range(count)))
        / (count * (count - 1))
        for layer, matrix in data["pairs"]["layers"].items()
    }


def _sentence(data: Mapping[str, Any]) -> str:
    return " ".join([_on_ingredients(data), *(_on_soup(row, data) for row in _best_soup(data))])


def _on_ingredients(data: Mapping[str, Any]) -> str:
    if len(data["ingredients"]) < 2:
        return "There is only one ingredient, so there are no representations to compare."
    by_layer = _by_layer(data)
    layer = min(by_layer, key=by_layer.__getitem__)
    lowest = f"{by_layer[layer]:.2f} in {layer!r}"
    if by_layer[layer] < _APART:
        return (
            f"The ingredients represent the data differently: the mean CKA of two is {lowest}. "
            "Average only similar ones, or align them first."
        )
    return (
        "The ingredients represent the data similarly: the mean CKA of two is "
        f"{fmean(by_layer.values()):.2f} over all layers, at the lowest {lowest}."
    )


def _on_soup(row: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    ratios = {
        layer: ratio
        for layer, ratio in zip(data["layers"], row["variance_ratio"], strict=True)
        if ratio is not None
    }
    if not ratios:
        return "The ingredients' features do not vary, so a soup has no variance to lose."
    layer = min(ratios, key=ratios.__getitem__)
    kept = f"{100 * ratios[layer]:.0f} % of its ingredients' feature variance in {layer!r}"
    if ratios[layer] >= _COLLAPSED:
        return f"The best soup, {row['name']}, keeps at least {kept}, so it needs no repair."
    repair = "recalibrate its BatchNorm statistics" if data["has_batch_norm"] else "rescale it"
    tool = "recalibrate_batch_norm" if data["has_batch_norm"] else "repair"
    return (
        f"The variance of the best soup, {row['name']}, collapses: it keeps {kept}; {repair} "
        f"(stockpot.soups.alignment.{tool})."
    )
