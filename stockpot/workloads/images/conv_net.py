"""A small convolutional net for 8 x 8 grey images."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from stockpot.workloads.initialisation import initialised


class ConvNet(nn.Module):
    """Two strided convolutions and a hidden layer: 37 000 parameters, no BatchNorm."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(32, 80, kernel_size=3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(80 * 2 * 2, 40),
            nn.ReLU(),
        )
        self.head = nn.Linear(40, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images (N, 1, 8, 8); (N, C)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def build_conv_net(num_classes: int, generator: Generator) -> ConvNet:
    """Build a net whose weights come from `generator` alone (He et al. 2015; biases are 0)."""
    return initialised(lambda: ConvNet(num_classes), generator)
