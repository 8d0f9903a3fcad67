"""Metrics of outputs and targets, one file a family; which ones a workload is judged by."""

from stockpot.scoring.metrics.metric import TaskMetric
from stockpot.scoring.metrics.registry import TASK_METRICS, metrics_of

__all__ = ["TASK_METRICS", "TaskMetric", "metrics_of"]
