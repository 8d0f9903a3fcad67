"""Metrics of outputs and targets, one file a family; which ones a workload is judged by."""

from stockpot.evaluation.metrics.metric import TaskMetric
from stockpot.evaluation.metrics.registry import TASK_METRICS, metrics_of

__all__ = ["TASK_METRICS", "TaskMetric", "metrics_of"]
