"""Nets that are aligned in tests, and weights for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from stockpot.workloads.images.conv_net import ConvNet

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

    def __init__(self, *, pool: bool, times: int = 1, stride: int = 1) -> None:
        super().__init__()
        first, second = 6 * times, 8 * times
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, 3, padding=1, stride=stride, bias=False), nn.BatchNorm2d(first)
        )
        self.block = _Branch(first, 5 * times, first, stride=1)
        self.down = _Branch(first, 7 * times, second, stride=2)
        self.shortcut = nn.Conv2d(first, second, 1, stride=2, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(second)
        self.pool = nn.AdaptiveAvgPool2d(1) if pool else nn.Identity()
        places = 1 if pool else (4 // stride) ** 2
        self.head = nn.Linear(second * places, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(x + self.block(x))
        x = functional.relu(self.shortcut_norm(self.shortcut(x)) + self.down(x))
        return self.head(torch.flatten(self.pool(x), 1))


class _MlpBranch(nn.Module):
    """A residual branch: LayerNorm and two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(functional.gelu(self.up(self.norm(x))))


class PreNormMlp(nn.Module):
    """A residual MLP with LayerNorm ahead of each branch."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.embed = nn.Linear(64, width)
        self.branches = nn.Sequential(_MlpBranch(width), _MlpBranch(width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.branches(self.embed(torch.flatten(x, 1)))))


class Transformer(nn.Module):
    """One block with LayerNorm ahead of attention and MLP; the rows of an image are its tokens."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.places = nn.Parameter(torch.zeros(8, width))
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Linear(width, width)
        self.keys = nn.Linear(width, width)
        self.values = nn.Linear(width, width)
        self.attended = nn.Linear(width, width)
        self.branch = _MlpBranch(width)
        self.last_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.mean(dim=1)) + self.places
        read = self.norm(x)
        mixed = functional.scaled_dot_product_attention(
            self.queries(read), self.keys(read), self.values(read)
        )
        x = self.branch(x + self.attended(mixed))
        return self.head(self.last_norm(x).mean(dim=1))


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
    "residual MLP with layer norm": PreNormMlp,
    "transformer": Transformer,
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
