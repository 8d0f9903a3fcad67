"""A small residual net with BatchNorm for images (He et al. 2016)."""

from __future__ import annotations

from torch import Tensor, nn

_WIDTHS = (16, 32, 64)  # channels of the blocks, each at half the resolution of the one before


class ResidualNet(nn.Module):
    """A convolution and three residual blocks: 80 000 parameters.

    After averaging such nets, BatchNorm statistics must be recalibrated.
    """

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(num_channels, _WIDTHS[0], kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTHS[0]),
            nn.ReLU(),
        )
        pairs = zip((_WIDTHS[0], *_WIDTHS), _WIDTHS, strict=False)
        self.blocks = nn.Sequential(*(_Block(*pair) for pair in pairs))
        self.head = nn.Linear(_WIDTHS[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images (N, channels, H, W), any size from 8; (N, C)."""
        features = self.blocks(self.stem(images)).mean(dim=(2, 3))
        logits: Tensor = self.head(features)
        return logits


class _Block(nn.Module):
    """Two convolutions, the first with stride 2, and a 1 x 1 shortcut (He et al. 2016)."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(num_inputs, num_outputs, kernel_size=3, padding=1, stride=2, bias=False),
            nn.BatchNorm2d(num_outputs),
            nn.ReLU(),
            nn.Conv2d(num_outputs, num_outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(num_outputs),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(num_inputs, num_outputs, kernel_size=1, stride=2, bias=False),
            nn.BatchNorm2d(num_outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return features at half the resolution."""
        features: Tensor = (self.residual(images) + self.shortcut(images)).relu()
        return features
