"""Seven corruptions of images, the shifts of image workloads.

Each takes images (N, C, H, W), float32 in [0, 1], and a CPU generator, and returns images of the
same shape and range. Equal generators give equal results; inputs are not modified.
Lengths are in units of an eighth of the height: a pixel of the digits workload.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Generator, Tensor
from torch.nn import functional

Corruption = Callable[[Tensor, Generator], Tensor]


def noise(images: Tensor, generator: Generator) -> Tensor:
    """Add Gaussian noise of standard deviation 0.25 to every pixel."""
    drawn = torch.randn(images.shape, generator=generator).to(images.device)
    return (images + 0.25 * drawn).clamp(0, 1)


def rotate(images: Tensor, generator: Generator) -> Tensor:
    """Rotate each image by 20 to 35 degrees, left or right."""
    degrees = _uniform(images, 20, 35, generator) * _sign(images, generator)
    return transform(images, degrees=degrees)


def translate(images: Tensor, generator: Generator) -> Tensor:
    """Translate each image by 0.75 to 1.25 units along both axes, in either direction."""
    units = [_uniform(images, 0.75, 1.25, generator) * _sign(images, generator) for _ in range(2)]
    return transform(images, right=_unit(images) * units[0], down=_unit(images) * units[1])


def blur(images: Tensor, generator: Generator) -> Tensor:  # noqa: ARG001 (one signature for all)
    """Convolve with a Gaussian of standard deviation 1.1 units, cut off at 2 units."""
    reach = round(2 * _unit(images))
    offsets = torch.arange(-float(reach), reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / (1.1 * _unit(images))) ** 2)
    kernel = kernel / kernel.sum()
    channels = images.flatten(0, 1).unsqueeze(1)  # (N C, 1, H, W)
    padded = functional.pad(channels, [reach] * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    blurred = functional.conv2d(rows, kernel.view(1, 1, -1, 1))
    return blurred.view(images.shape).clamp(0, 1)


def contrast(images: Tensor, generator: Generator) -> Tensor:
    """Reduce each image's contrast to 25 to 50 percent around a random brightness."""
    contrast = _per_image(_uniform(images, 0.25, 0.5, generator))
    brightness = _per_image(_uniform(images, 0, 1, generator))
    return brightness * (1 - contrast) + contrast * images


def occlude(images: Tensor, generator: Generator) -> Tensor:
    """Blacken a square of 0.4 of the image's height, anywhere inside each image."""
    height, width = images.shape[-2:]
    side = round(0.4 * height)
    top = _uniform(images, 0, height - side + 1, generator).floor()
    left = _uniform(images, 0, width - side + 1, generator).floor()
    rows = torch.arange(height, device=images.device) - top.view(-1, 1)  # (N, H)
    columns = torch.arange(width, device=images.device) - left.view(-1, 1)  # (N, W)
    in_rows = (rows >= 0) & (rows < side)
    in_columns = (columns >= 0) & (columns < side)
    covered = in_rows[:, None, :, None] & in_columns[:, None, None, :]  # (N, 1, H, W)
    return images.masked_fill(covered, 0.0)


def scale(images: Tensor, generator: Generator) -> Tensor:
    """Shrink each image's content to 65 to 85 percent of its size."""
    return transform(images, zoom=_uniform(images, 0.65, 0.85, generator))


def transform(
    images: Tensor,
    *,
    degrees: Tensor | None = None,
    zoom: Tensor | None = None,
    right: Tensor | None = None,
    down: Tensor | None = None,
) -> Tensor:
    """Rotate, scale and translate each image about its centre; bilinear, black outside.

    Args:
        images: (N, C, H, W) in [0, 1].
        degrees: (N,) counterclockwise rotation; 0 by default.
        zoom: (N,) factor on the content's size; 1 by default.
        right: (N,) pixels to the right; 0 by default.
        down: (N,) pixels down; 0 by default.

    Returns:
        Images of the same shape, in [0, 1].
    """
    num_images, _, height, width = images.shape
    zeros = images.new_zeros(num_images)
    angle = (zeros if degrees is None else degrees) * (math.pi / 180)
    inverse = 1 / (zeros + 1 if zoom is None else zoom)
    # affine_grid maps output to input positions, in units of half the image's size.
    x = -2 / width * (zeros if right is None else right)
    y = -2 / height * (zeros if down is None else down)
    cosine, sine = inverse * angle.cos(), inverse * angle.sin()
    rows = [
        torch.stack([cosine, -sine, cosine * x - sine * y], dim=-1),
        torch.stack([sine, cosine, sine * x + cosine * y], dim=-1),
    ]
    grid = functional.affine_grid(
        torch.stack(rows, dim=1), list(images.shape), align_corners=False
    )  # (N, H, W, 2)
    return functional.grid_sample(images, grid, align_corners=False).clamp(0, 1)


def _uniform(images: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """Draw one number per image in [low, high); (N,)."""
    drawn = torch.rand(len(images), generator=generator).to(images.device)
    return low + (high - low) * drawn


def _unit(images: Tensor) -> float:
    """Return an eighth of the images' height, in pixels."""
    return images.shape[-2] / 8


def _sign(images: Tensor, generator: Generator) -> Tensor:
    """Draw -1 or 1 for each image; (N,)."""
    return 1 - 2 * _uniform(images, 0, 2, generator).floor()


def _per_image(values: Tensor) -> Tensor:
    """View (N,) as (N, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        corruption.__name__: corruption
        for corruption in (noise, rotate, translate, blur, contrast, occlude, scale)
    }
)
