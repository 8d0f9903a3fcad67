"""Nets that are aligned in tests, and weights for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from stockpot.workloads.conv_net import ConvNet

INPUT_SHAPE = (1, 8, 8)


def mlp(width: int = 32, depth: int = 2) -> nn.Module:
    """Linear layers; `depth` of them are hidden."""
    hidden: list[nn.Module] = [nn.Linear(64, width), nn.ReLU()]
    for _ in range(depth - 1):
        hidden += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


def layer_norm_net() -> nn.Module:
    """LayerNorm and RMSNorm on hidden units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 12),
        nn.LayerNorm(12),
        nn.GELU(),
        nn.Linear(12, 14),
        nn.RMSNorm(14),
        nn.Linear(14, 10),
    )


class _Branch(nn.Module):
    """Two convolutions with BatchNorm."""

    def __init__(self, read: int, inner: int, written: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(read, inner, 3, padding=1, stride=stride, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, written, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(written)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(inner))


class ResidualNet(nn.Module):
    """A stem, a block with an identity shortcut, one with a convolution, and a head."""

    def __init__(self, *, pool: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
        self.block = _Branch(6, 5, 6, stride=1)
        self.down = _Branch(6, 7, 8, stride=2)
        self.shortcut = nn.Conv2d(6, 8, 1, stride=2, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(1) if pool else nn.Identity()
        self.head = nn.Linear(8 if pool else 8 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(x + self.block(x))
        x = functional.relu(self.shortcut_norm(self.shortcut(x)) + self.down(x))
        return self.head(torch.flatten(self.pool(x), 1))


class OtherLayers(nn.Module):
    """What the other nets lack: depthwise and grouped convolutions, GroupNorm, gates, means."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.of_all = nn.LayerNorm((6, 8, 8))
        self.depthwise = nn.Conv2d(6, 12, 3, padding=1, groups=6)
        self.one_group = nn.GroupNorm(1, 12)
        self.mixed = nn.Conv2d(12, 8, 1)
        self.gain = nn.Parameter(torch.ones(8, 1, 1))
        self.two_groups = nn.GroupNorm(2, 8)
        self.free = nn.Conv2d(8, 8, 1)
        self.grouped = nn.Conv2d(8, 4, 1, groups=2)
        self.last = nn.Conv2d(4, 6, 1)
        self.gate = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one_group(self.depthwise(self.of_all(torch.relu(self.first(x)))))
        x = self.two_groups(self.gain * self.mixed(x).tanh())
        x = self.last(self.grouped(self.free(x).sigmoid()))
        x = x * self.gate(x.mean(dim=(2, 3), keepdim=True)).sigmoid()
        return self.head(functional.max_pool2d(x, 4).view(x.size(0), -1))


NETS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "digits conv net with flatten": lambda: ConvNet(10),
    "residual net with batch norm and pooling": lambda: ResidualNet(pool=True),
    "residual net with batch norm and flatten": lambda: ResidualNet(pool=False),
    "layer norm net": layer_norm_net,
}


def random_state(net: nn.Module, generator: Generator) -> dict[str, Tensor]:
    """Draw every tensor, also those of norms; variances are positive."""
    state = {}
    for name, tensor in net.state_dict().items():
        drawn = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            drawn = drawn.abs() + 0.5
        elif tensor.ndim > 1:
            drawn = drawn / tensor[0].numel() ** 0.5
        state[name] = drawn.to(tensor.dtype)
    return state


def seeded(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give a net random weights that depend on the seed alone."""
    net.load_state_dict(random_state(net, Generator().manual_seed(seed)))
    return net


def random_inputs(generator: Generator, num_examples: int = 5) -> Tensor:
    """Draw a batch of images."""
    return torch.rand(num_examples, *INPUT_SHAPE, generator=generator)


@torch.no_grad()
def outputs(net: nn.Module, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """Run the net with these weights, in eval mode."""
    net.load_state_dict(state)
    return net.eval()(inputs)
