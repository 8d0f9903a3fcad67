"""A small convolutional net for 28 x 28 grey images."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from stockpot.workloads.initialisation import initialised


class FashionNet(nn.Module):
    """Two strided convolutions and a hidden layer: 163 000 parameters, no BatchNorm."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, kernel_size=5, padding=2, stride=2),
            nn.ReLU(),
            nn.Conv2d(24, 48, kernel_size=3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * 7 * 7, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images (N, 1, 28, 28); (N, C)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def build_fashion_net(num_classes: int, generator: Generator) -> FashionNet:
    """Build a net whose weights come from `generator` alone."""
    return initialised(lambda: FashionNet(num_classes), generator)
