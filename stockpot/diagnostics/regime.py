"""Rich or lazy regime: how far fine-tuning left the range where a net is linear in its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.ensemble_gap import own_coefficients, soup_ensemble_gap
from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.layers import watched_outputs, weighted_layers
from stockpot.diagnostics.tangent_kernel import (
    KernelSize,
    alignment,
    kernel_size,
    num_kernel_outputs,
    tangent_kernel,
)
from stockpot.merging.states import State
from stockpot.workloads.protocol import Batch, Workload

_PROBE = 32  # examples of val
_MAX_JACOBIAN_MB = 512
_MAX_SIDE = 512  # of a weight whose singular values are computed
# Gap relative to the change by fine-tuning; it is about 0.7 for unrelated nets.
_LIKE, _UNLIKE = 0.25, 0.5
_NOTHING = 1e-3  # a base's share that is rounding
_AVERAGE = "average of all"
MEASURES = (
    "displacement",
    "ntk_distance",
    "representation_alignment",
    "sign_agreement",
    "effective_rank",
)
"""Measures of each ingredient and soup relative to the base."""


@dataclass(slots=True)
class Run:
    """Activations of a net on the probe.

    Attributes:
        outputs: (N, C).
        read: the input of the last layer with weights: the net's representation; (N, D).
        signs: by layer before the last one, whether its outputs are above 0; (N, ...).
    """

    outputs: Tensor
    read: Tensor
    signs: dict[str, Tensor]


def regime(context: DiagnosticContext) -> Finding:
    """Compare ingredients and soups with the base: weights, tangent kernel, representation.

    Source: Liu et al. 2023, https://arxiv.org/abs/2310.08513 (measures of rich and lazy
    learning, and the rank of the weights that training starts at, which are the base's). If a net
    is linear in its weights, averaging weights is averaging outputs; else the gap is of second
    order in the task vectors.
    """
    batch = context.probe("val", _PROBE)
    net = context.net(context.base.weights)
    layers = weighted_layers(context.workload, net, batch)
    if not layers:
        return Finding("The net has no module with weights, so there is nothing to compare.")
    models = [context.base, *context.ingredients, *context.soups]
    runs = {m.name: run(context.workload, context.net(m.weights), batch, layers) for m in models}
    sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}
    num_outputs = num_kernel_outputs(context.workload, runs[context.base.name].outputs)
    size = kernel_size(sizes, len(batch[-1]), num_outputs, _MAX_JACOBIAN_MB * 2**18)
    kernels = _kernel_distances(context, models[1:], batch, size)
    rows = [
        _compare(model, context.base, [*sizes], runs) | {"ntk_distance": kernels.get(model.name)}
        for model in models[1:]
    ]
    data = {
        "probe": len(batch[-1]),
        "kernel": {
            "num_rows": size.num_rows,
            "num_params": size.num_params,
            "all_params": sum(sizes.values()),
        },
        "initial_effective_rank": _mean_rank(context.base.weights, [*sizes]),
        "models": rows,
        "gaps": _gaps(context, batch, layers, runs),
    }
    shown = _shown_gap(context, data)
    return Finding(_sentence(data, shown), _metrics(data, shown), data)


def run(workload: Workload, net: nn.Module, batch: Batch, layers: Sequence[str]) -> Run:
    """Run a net on the probe and record the activations of its layers."""
    signs: dict[str, Tensor] = {}
    reads: dict[str, Tensor] = {}

    def note(name: str, _layer: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
        signs[name] = outputs > 0
        reads["last"] = inputs

    outputs = watched_outputs(workload, net, batch, layers, note)
    signs.popitem()  # of the last layer, whose outputs are the net's
    return Run(outputs, reads["last"].flatten(1), signs)


def displacements(base: State, state: State, names: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Return the distance of weights from the base's, relative to their norm: total, by module.

    None for a module whose weights in the base are 0.
    """
    squares: dict[str, list[float]] = {}
    for name in names:
        before = base[name].double()
        moved = float((state[name].double() - before).square().sum())
        sums = squares.setdefault(name.rpartition(".")[0] or name, [0.0, 0.0])
        sums[0] += moved
        sums[1] += float(before.square().sum())
    moved, length = (sum(column) for column in zip(*squares.values(), strict=True))
    by_module = {n: (m / b) ** 0.5 if b else None for n, (m, b) in squares.items()}
    return (moved / length) ** 0.5 if length else 0.0, by_module


def representation_alignment(first: Tensor, second: Tensor) -> float:
    """Return the cosine between the kernels H H^T of two representations (N, D)."""
    return alignment(*(rows @ rows.T for rows in (first.double(), second.double())))


def sign_agreement(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return the share of units and examples with equal signs in both nets; 1 without units."""
    same = sum(int((signs == second[name]).sum()) for name, signs in first.items())
    count = sum(signs.numel() for signs in first.values())
    return same / count if count else 1.0


def effective_rank(matrix: Tensor) -> float:
    """Return exp(entropy) of the normalised singular values; 0 for a zero matrix.

    Source: Roy and Vetterli 2007, The effective rank, definition 1.
    """
    values = torch.linalg.svdvals(matrix.double())
    total = values.sum()
    if total == 0:
        return 0.0
    return float(torch.special.entr(values / total).sum().exp())


def _kernel_distances(
    context: DiagnosticContext, models: Sequence[LoadedModel], batch: Batch, size: KernelSize
) -> dict[str, float]:
    """Return 1 - cosine of each model's tangent kernel with the base's; {} if it is too large."""
    if not size.groups:
        return {}
    rows = tuple(tensor[: size.num_rows] for tensor in batch)

    def kernel(model: LoadedModel) -> Tensor:
        return tangent_kernel(context.workload, context.net(model.weights), rows, size.groups)

    base = kernel(context.base)
    return {model.name: 1 - alignment(kernel(model), base) for model in models}


def _compare(
    model: LoadedModel, base: LoadedModel, names: Sequence[str], runs: Mapping[str, Run]
) -> dict[str, Any]:
    own, start = runs[model.name], runs[base.name]
    total, by_module = displacements(base.weights, model.weights, names)
    change = {name: model.weights[name].double() - base.weights[name].double() for name in names}
    return {
        "name": model.name,
        "kind": model.model.kind,
        "displacement": total,
        "layers": by_module,
        "representation_alignment": representation_alignment(own.read, start.read),
        "sign_agreement": sign_agreement(own.signs, start.signs),
        "effective_rank": _mean_rank(change, names),
    }


def _mean_rank(tensors: State, names: Sequence[str]) -> float | None:
    """Return the mean effective rank of the matrices among some tensors; None if there is none."""
    rows = (tensors[name].flatten(1) for name in names if tensors[name].ndim > 1)
    ranks = [effective_rank(matrix) for matrix in rows if min(matrix.shape) <= _MAX_SIDE]
    return fmean(ranks) if ranks else None


def _gaps(
    context: DiagnosticContext, batch: Batch, layers: Sequence[str], runs: Mapping[str, Run]
) -> list[dict[str, Any]]:
    """Return the gap of the mean of all ingredients, then of each soup to its own ensemble."""

    def row(name: str, own: Run, coefficients: Mapping[str, float]) -> dict[str, Any]:
        outputs = [runs[ingredient].outputs for ingredient in coefficients]
        base = runs[context.base.name].outputs
        gap, relative = soup_ensemble_gap(own.outputs, outputs, [*coefficients.values()], base)
        return {"name": name, "gap": gap, "relative": relative, "coefficients": {**coefficients}}

    states = {model.name: model.weights for model in context.ingredients}
    average = context.net(context.mean_of([*states.values()]))
    mixed = run(context.workload, average, batch, layers)
    rows = [row(_AVERAGE, mixed, dict.fromkeys(states, 1 / len(states)))]
    for soup in context.soups:
        if soup.model.details.get("coefficients", {}).keys() <= states.keys():
            own = own_coefficients(soup.model, soup.weights, context.base.weights, states)
            rows.append(row(soup.name, runs[soup.name], own))
    return rows


def _shown_gap(context: DiagnosticContext, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the gap of the best soup on val; without soups, that of the mean of all."""
    gaps: dict[str, dict[str, Any]] = {row["name"]: row for row in data["gaps"]}
    best = context.best_soup.name if context.soups else _AVERAGE
    return gaps.get(best, gaps[_AVERAGE])


def _means(data: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean over ingredients of each measure that is defined for all."""
    ingredients = [row for row in data["models"] if row["kind"] == "ingredient"]
    measured = {name: [row[name] for row in ingredients] for name in MEASURES}
    return {name: fmean(values) for name, values in measured.items() if None not in values}


def _metrics(data: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, float]:
    relative = {"gap_relative": shown["relative"]} if shown["relative"] is not None else {}
    rank = data["initial_effective_rank"]
    initial = {} if rank is None else {"initial_effective_rank": rank}
    return _means(data) | {"gap": shown["gap"]} | relative | initial


def _sentence(data: Mapping[str, Any], shown: Mapping[str, Any]) -> str:
    means = _means(data)
    turned = "; the tangent kernel of this net is too large to be computed"
    if "ntk_distance" in means:
        turned = (
            f", and changed the tangent kernel by {round(means['ntk_distance'], 4):.2g} (0: the "
            "net stayed linear in its weights; 1: it learnt new features)"
        )
    ranks = ""
    if "effective_rank" in means:
        ranks = (
            f" The base's weight matrices have a mean effective rank of "
            f"{data['initial_effective_rank']:.3g}, their changes {means['effective_rank']:.3g}."
        )
    return (
        f"Fine-tuning moved the weights by {100 * means['displacement']:.3g} % of the base's norm"
        f"{turned}.{ranks} {_on_gap(shown)}"
    )


def _on_gap(shown: Mapping[str, Any]) -> str:
    coefficients, relative = shown["coefficients"], shown["relative"]
    of_base = 1 - sum(coefficients.values())
    if len(coefficients) < 2 and abs(of_base) < _NOTHING:
        return "With one ingredient there is nothing to average."
    if relative is None:
        return "Outputs equal those of the base, so there is nothing to average."
    of = "all ingredients" if shown["name"] == _AVERAGE else f"the soup {shown['name']!r}"
    lead = (
        f"Averaging the weights of {of} instead of their outputs "
        f"changes the outputs by {100 * relative:.0f} % of the change by fine-tuning"
    )
    if relative < _LIKE:
        return f"{lead}: a soup predicts like the ensemble."
    if relative < _UNLIKE:
        return f"{lead}: a soup is close to the ensemble, but not equivalent."
    return (
        f"{lead}: a soup differs from the ensemble, for better or worse. If barriers or scores "
        "are bad too, align or group the ingredients, or fine-tune them less."
    )
