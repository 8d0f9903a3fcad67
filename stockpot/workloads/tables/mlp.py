"""A multilayer perceptron with BatchNorm."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class _RowNorm(nn.BatchNorm1d):
    """BatchNorm that normalises a single row, which has no variance, by its statistics.

    The last batch of an epoch may have one.
    """

    def forward(self, rows: Tensor) -> Tensor:
        if self.training and len(rows) == 1:
            return functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(rows)


class Mlp(nn.Module):
    """Two hidden layers, each normalised over the batch.

    After averaging such nets, BatchNorm statistics must be recalibrated.
    """

    def __init__(self, num_features: int, num_hidden: int, num_outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(num_features, num_hidden, bias=False),
            _RowNorm(num_hidden),
            nn.ReLU(),
            nn.Linear(num_hidden, num_hidden, bias=False),
            _RowNorm(num_hidden),
            nn.ReLU(),
        )
        self.head = nn.Linear(num_hidden, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs for features (N, D); (N, `num_outputs`)."""
        outputs: Tensor = self.head(self.features(features))
        return outputs
