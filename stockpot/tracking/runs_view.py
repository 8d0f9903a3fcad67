"""How MLflow's UI shows the runs of an experiment: which columns, which order.

The UI keeps a view that is shared by link in a tag of the experiment, and opens it by the tag's
last part (seen in MLflow 3.17; a UI that does not know it says so and shows its default).
"""

from __future__ import annotations

import json

VIEW = "stockpot"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"


def runs_view(metric: str) -> str:
    """Return the view of all models as one flat list, the best on test first.

    Args:
        metric: the workload's first one, e.g. `accuracy`.
    """
    metrics = (
        f"val/{metric}",
        f"test/{metric}",
        f"shift/mean/{metric}",
        f"difference/test/{metric}",
        f"difference/shift/mean/{metric}",
    )
    columns = [
        *(f"metrics.`{name}`" for name in metrics),
        *(f"params.`{name}`" for name in ("select", "method", "num_ingredients")),
        "tags.`stockpot.kind`",
    ]
    view = {
        "selectedColumns": columns,
        "searchFilter": "tags.stockpot.kind != 'pipeline'",
        "orderByKey": f"metrics.`test/{metric}`",
        "orderByAsc": False,
    }
    return json.dumps(view)
