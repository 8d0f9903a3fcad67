"""The ServerApp: rounds from the project's base, and the result as a file for `sweep.import`."""

from __future__ import annotations

import time
from logging import INFO
from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from stockpot.errors import InputError
from stockpot.scoring.val_scores import val_score
from stockpot_flower.federation import Federation, Server
from stockpot_flower.strategy import RoundsStrategy

FILE = Path(__file__).parents[1] / "federation.yaml"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Do the rounds of an entry of federation.yaml, and save the global model.

    Raises:
        InputError: the entry, the project or the nodes do not fit.
    """
    settings = context.run_config
    federation = Federation.read(FILE, str(settings["entry"]))
    project = _project(str(settings["project"]))
    server = Server(federation, federation.first_model(project))
    nodes = _nodes(grid, federation.recipe.clients, float(settings["wait-seconds"]))
    strategy = RoundsStrategy(server, nodes)
    result = strategy.start(
        grid,
        ArrayRecord(server.model),
        num_rounds=federation.recipe.rounds,
        timeout=float(settings["timeout-seconds"]),
        evaluate_fn=lambda _number, arrays: MetricRecord(
            {"val": val_score(federation.workload, arrays.to_torch_state_dict(), "cpu")}
        ),
    )
    for record in strategy.history:
        record["val"] = result.evaluate_metrics_serverapp[int(record["round"])]["val"]
    file = project / "federated" / f"{federation.recipe.name}.safetensors"
    server.save(file, strategy.history)
    log(INFO, "global model: %s", file)


def _project(text: str) -> Path:
    """Return the folder of the merge experiment; the ServerApp runs in a folder of Flower's."""
    project = Path(text)
    if not project.is_absolute() or not (project / "params.yaml").is_file():
        raise InputError(
            "--run-config: project must be the absolute path of a folder with params.yaml, "
            f"got {text!r}"
        )
    return project


def _nodes(grid: Grid, num_clients: int, seconds: float) -> dict[int, int]:
    """Wait for the nodes, ask for their numbers, and return their ids by client."""
    deadline = time.monotonic() + seconds
    while len(found := sorted(grid.get_node_ids())) < num_clients and time.monotonic() < deadline:
        time.sleep(0.2)
    if len(found) != num_clients:
        raise InputError(
            f"{FILE.name}: clients is {num_clients}, but {len(found)} nodes are connected; change "
            f"it, or simulate with --federation-config 'num-supernodes={num_clients}'"
        )
    questions = [Message(RecordDict(), node, MessageType.QUERY) for node in found]
    replies = [*grid.send_and_receive(questions, timeout=seconds)]
    nodes = {
        int(reply.content["node"]["client"]): reply.metadata.src_node_id
        for reply in replies
        if not reply.has_error()
    }
    if sorted(nodes) != [*range(num_clients)]:
        raise InputError(
            f"--node-config: partition-id must be 0 to {num_clients - 1}, each at one node, "
            f"got {sorted(nodes)} from {len(found)} nodes"
        )
    return nodes
