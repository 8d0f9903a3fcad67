"""The user's own metrics, as `module:name`; built-in ones belong to their task."""

from __future__ import annotations

from stockpot.plugins import Registry
from stockpot.scoring.metrics.metric import TaskMetric, users_metric

METRICS: Registry[TaskMetric] = Registry("metric", {}, users_metric)
