"""Metrics of outputs and targets, one file a family; which ones a workload is judged by."""

from stockpot.scoring.metrics.by_task import TASK_METRICS, metrics_of
from stockpot.scoring.metrics.metric import TaskMetric

__all__ = ["TASK_METRICS", "TaskMetric", "metrics_of"]
