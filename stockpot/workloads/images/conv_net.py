"""A small convolutional net for grey images."""

from __future__ import annotations

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Two convolutions with stride 2 and a hidden layer, no BatchNorm.

    Args:
        num_classes: C.
        side: height and width of the images, in pixels; a multiple of 4.
        widths: channels of the convolutions.
        kernel: size of the first convolution's kernel, odd; that of the second is 3.
        num_hidden: units of the hidden layer.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        side: int = 8,
        widths: tuple[int, int] = (32, 80),
        kernel: int = 3,
        num_hidden: int = 40,
    ) -> None:
        super().__init__()
        first, second = widths
        self.features = nn.Sequential(
            nn.Conv2d(1, first, kernel, padding=kernel // 2, stride=2),
            nn.ReLU(),
            nn.Conv2d(first, second, kernel_size=3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * (side // 4) ** 2, num_hidden),
            nn.ReLU(),
        )
        self.head = nn.Linear(num_hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images (N, 1, `side`, `side`); (N, C)."""
        logits: Tensor = self.head(self.features(images))
        return logits
