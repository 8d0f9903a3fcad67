"""Metrics of predicted values and targets, (N,) or (N, D) both; by scikit-learn."""

from __future__ import annotations

from torch import Tensor

from stockpot.scoring.metrics.metric import TaskMetric, mean_metric


def absolute_error_per_example(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the absolute error of each example, the mean over its values; (N,), float64.

    Raises:
        ValueError: outputs and targets have different numbers of values.
    """
    values, expected = _aligned(outputs, targets)
    return (values - expected).abs().mean(dim=1)


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """Return the root mean squared error, averaged over the D values of an example.

    Raises:
        ValueError: outputs and targets have different numbers of values.
    """
    from sklearn.metrics import root_mean_squared_error

    values, expected = _aligned(outputs, targets)
    return float(root_mean_squared_error(expected.numpy(), values.numpy()))


def r2(outputs: Tensor, targets: Tensor) -> float:
    """Return the explained share of variance, averaged over the D values of an example.

    Returns:
        At most 1; 0 for predicting the mean. NaN for fewer than 2 examples. For a
        constant target, 1 if it is predicted exactly, else 0.

    Raises:
        ValueError: outputs and targets have different numbers of values.
    """
    from sklearn.metrics import r2_score

    values, expected = _aligned(outputs, targets)
    return float(r2_score(expected.numpy(), values.numpy())) if len(values) > 1 else float("nan")


REGRESSION = (
    TaskMetric("rmse", False, rmse),
    mean_metric("mae", absolute_error_per_example, higher_is_better=False),
    TaskMetric("r2", True, r2),
)


def _aligned(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as (N, D), float64: (N, 1) with (N,) would broadcast to (N, N)."""
    values, expected = (t.double().reshape(len(t), -1) for t in (outputs, targets))
    if values.shape != expected.shape:
        raise ValueError(
            f"regression: outputs and targets must have one shape, got {tuple(outputs.shape)} "
            f"and {tuple(targets.shape)}"
        )
    return values, expected
