"""Layers as mixtures of shared templates (MixtureGrowth: Pham et al. 2024).

https://arxiv.org/abs/2311.04251. The weight of a layer is a sum of templates, each times one of the
layer's coefficients; layers of one shape share their templates. In a wide net, which holds nets
side by side, each net has templates of its own, and the weights between the nets are new mixtures
of them: so a net of double width grows from what two small ones have learned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Generator, Size, Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.reparametrisation import ComputedTensors, compute, computed
from stockpot.ingredients.finetuning.trained_parts import TrainedParts
from stockpot.seeding import seeded_generator
from stockpot.workloads.wide_nets import count_nets, ordinary_shapes

_MOST_MISSED = 1e-3  # of the length of a weight, in nets that grow
_TEMPLATES = "templates"  # the templates of the first group are the model's parameter templates_0


class Mixture(nn.Module):
    """Computes a weight of M x M blocks from coefficients, which are trained in its place.

    The blocks (i, j) of row i compute units of net i, and are mixtures of its templates; M is 1 in
    an ordinary net.
    """

    def __init__(self, weight: Tensor, *, coefficients: Tensor, templates: nn.Parameter) -> None:
        """Mix templates.

        Args:
            weight: that is replaced.
            coefficients: at the start, (M, M, k).
            templates: (M, k, out, in, ...), shared by layers; a parameter of the model.
        """
        super().__init__()
        del weight
        self._start = coefficients
        self._shared = [templates]  # in a list, so that it is a parameter of the model alone

    def forward(self, coefficients: Tensor) -> Tensor:
        """Return the weight (M out, M in, ...) for coefficients (M, M, k)."""
        with torch.autocast(coefficients.device.type, enabled=False):
            blocks = torch.einsum("ijk,ik...->ij...", coefficients, self._shared[0])
        return blocks.transpose(1, 2).flatten(2, 3).flatten(0, 1)

    def right_inverse(self, weight: Tensor) -> Tensor:  # noqa: ARG002 (it has no exact one)
        """Return the coefficients at the start, whatever the weight."""
        return self._start.clone()


def share_templates(
    model: nn.Module, how: Hyperparameters, parts: TrainedParts
) -> ComputedTensors | None:
    """Make trained weights of linear and convolution layers mixtures of templates, in place.

    Layers whose weights have one shape are a group with `templates` templates. In an ordinary net a
    group of at most that many layers needs none, and the weights of a larger one become their
    nearest mixtures. In a wide net every group of layers between hidden units gets templates for
    each net, and what is between the nets becomes new mixtures. The head, biases, norms and tied
    weights stay as they are.

    Args:
        model: on its device.
        how: the number of templates, and the seed of those that are drawn.
        parts: the parameters that would be trained without templates.

    Returns:
        None if no group needs templates, so that the weights themselves are trained.

    Raises:
        InputError: no two layers of an ordinary net have weights of one shape; or the weights of
            a net in a wide one are no mixtures of so few templates.
    """
    shapes = ordinary_shapes(model)
    num_nets = count_nets(shapes, {n: t.shape for n, t in model.state_dict().items()}) or 1
    groups = _groups(model, parts, shapes, num_nets)
    if num_nets == 1:
        if not any(len(group) > 1 for group in groups.values()):
            raise InputError(
                "templates: needs trained linear or convolution layers with weights of one shape, "
                f"got {type(model).__name__} with none; set it to 0"
            )
        groups = {shape: each for shape, each in groups.items() if len(each) > how.templates}
    if not groups:
        return None
    wanted, shared = {}, {}
    for number, (shape, weights) in enumerate(groups.items()):
        start, templates = _mixtures(
            torch.stack([_blocks(weight.detach(), shape) for weight in weights.values()]),
            how.templates,
            seeded_generator(how.seed, "templates", number),
        )
        shared[f"{_TEMPLATES}_{number}"] = parameter = nn.Parameter(templates)
        for name, coefficients in zip(weights, start, strict=True):
            wanted[name] = partial(Mixture, coefficients=coefficients, templates=parameter)
    names = compute(model, wanted)
    for name, parameter in shared.items():
        model.register_parameter(name, parameter)
    return computed(model, names, parts)


def coefficients_in(model: nn.Module) -> set[nn.Parameter]:
    """Return the coefficients of mixtures, which have no weight decay."""
    lists = [module for module in model.modules() if isinstance(module, ParametrizationList)]
    originals = [each.original for each in lists if isinstance(each[0], Mixture)]
    return {one for one in originals if isinstance(one, nn.Parameter)}


def nearest_mixtures(weights: Tensor, num_templates: int) -> tuple[Tensor, Tensor]:
    """Return mixtures that are nearest to weights, each scaled to the length of its weight.

    Args:
        weights: of the layers of a group, (L, ...).
        num_templates: k, below L.

    Returns:
        Coefficients (L, k), orthonormal columns before they are scaled, and templates (k, ...), in
        float64. Weights that are mixtures of k templates are represented exactly, up to rounding.
    """
    rows = weights.double().flatten(1)
    _, vectors = torch.linalg.eigh(rows @ rows.T)  # eigenvalues ascend
    coefficients = vectors[:, -num_templates:].flip(1)
    templates = coefficients.T @ rows
    lengths = (coefficients @ templates).norm(dim=1, keepdim=True)
    scales = torch.where(lengths > 0, rows.norm(dim=1, keepdim=True) / lengths, 1.0)
    return coefficients * scales, templates.view(-1, *weights.shape[1:])


def grown_mixtures(own: Sequence[Tensor]) -> Tensor:
    """Return the coefficients of a wide layer: new ones between its nets.

    Each new vector is orthogonal to those before it, first those of the nets themselves, if they
    are fewer than the templates; else it is their last right-singular vector.

    Args:
        own: the coefficients (k,) of the layer in each of M nets.

    Returns:
        The coefficients (M, M, k) in float64; those between nets have length 1.

    Source: `coefs_growing: orthogonal` in the authors' code, its default.
    """
    known = [vector.double() for vector in own]
    grid = torch.stack(known).unsqueeze(1).repeat(1, len(own), 1)
    for i in range(len(own)):
        for j in range(len(own)):
            if i != j:
                grid[i, j] = torch.linalg.svd(torch.stack(known)).Vh[-1]
                known.append(grid[i, j])
    return grid


def _mixtures(
    blocks: Tensor, num_templates: int, generator: Generator
) -> tuple[list[Tensor], Tensor]:
    """Return the coefficients (M, M, k) of each layer, and the templates (M, k, out, in, ...).

    Args:
        blocks: the weights of L layers, (L, M, M, out, in, ...).
        num_templates: k. A net with fewer layers has these as its first templates; the others are
            drawn, with the root mean square of its layers.
        generator: draws them, on the CPU.
    """
    num_layers, num_nets = blocks.shape[:2]
    own: list[Tensor] = []  # of each net, (L, k)
    templates: list[Tensor] = []  # of each net, (k, out, in, ...)
    for net in range(num_nets):
        weights = blocks[:, net, net]
        if num_layers > num_templates:
            found = nearest_mixtures(weights, num_templates)
            if num_nets > 1:
                _require_mixtures(weights, found)
        else:
            shape = (num_templates - num_layers, *weights.shape[1:])
            drawn = torch.randn(shape, generator=generator).to(weights)
            drawn *= weights.square().mean().sqrt()
            eye = torch.eye(num_layers, num_templates, device=weights.device)
            found = (eye, torch.cat([weights, drawn]))
        own.append(found[0])
        templates.append(found[1])
    grids = [grown_mixtures([each[layer] for each in own]) for layer in range(num_layers)]
    return [grid.to(blocks) for grid in grids], torch.stack(templates).to(blocks)


def _require_mixtures(weights: Tensor, found: tuple[Tensor, Tensor]) -> None:
    """Require that weights (L, ...) are mixtures, as in nets that were trained with templates."""
    gaps = (torch.tensordot(*found, dims=1) - weights).flatten(1).norm(dim=1)
    missed = float((gaps / weights.double().flatten(1).norm(dim=1).clamp(min=1e-30)).max())
    if missed > _MOST_MISSED:
        raise InputError(
            f"templates: the {len(weights)} layers of each net with weights of shape "
            f"{[*weights.shape[1:]]} must be mixtures of {len(found[1])} templates, got weights of "
            f"which {missed:.0%} are none; train the nets with as many templates, or set "
            f"{len(weights)}"
        )


def _groups(
    model: nn.Module, parts: TrainedParts, shapes: Mapping[str, Size], num_nets: int
) -> dict[Size, dict[str, Tensor]]:
    """Return the weights that may share templates, by name, by their shape in one net.

    In a wide net these are the ones between hidden units, which have weights between the nets.
    """
    uses = Counter(id(one) for _, one in model.named_parameters(remove_duplicate=False))
    groups: dict[Size, dict[str, Tensor]] = {}
    for name, layer in model.named_modules():
        own = f"{name}.weight".lstrip(".")
        if not isinstance(layer, nn.Linear | _ConvNd) or own not in parts.trained - parts.head:
            continue
        shape = shapes[own]
        times = [size // one for size, one in zip(layer.weight.shape[:2], shape[:2], strict=True)]
        if uses[id(layer.weight)] == 1 and times == [num_nets, num_nets]:
            groups.setdefault(shape, {})[own] = layer.weight
    return groups


def _blocks(weight: Tensor, shape: Size) -> Tensor:
    """Return the blocks (M, M, out, in, ...) of a weight (M out, M in, ...)."""
    outputs, inputs, *kernel = shape
    columns = weight.shape[1] // inputs
    return weight.view(-1, outputs, columns, inputs, *kernel).transpose(1, 2)
