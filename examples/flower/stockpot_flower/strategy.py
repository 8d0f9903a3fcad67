"""A Flower strategy that leaves corrections and merges to a rule of stockpot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from logging import INFO, WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from stockpot_flower.federation import Server, Update


class RoundsStrategy(Strategy):
    """Rounds by a rule of stockpot.

    All state of the rule is on the server: clients need not remember anything between rounds.
    """

    def __init__(self, server: Server, nodes: Mapping[int, int]) -> None:
        """Use the nodes with these ids, by client."""
        self.server = server
        self.nodes = nodes
        self.clients = {node: client for client, node in nodes.items()}
        self.history: list[dict[str, float]] = []
        self._asked: tuple[int, ...] = ()

    def summary(self) -> None:
        """Log the rule."""
        recipe = self.server.federation.recipe
        log(INFO, "\t└──> %s of stockpot: %s", recipe.rule, recipe.settings)

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,  # noqa: ARG002 (all settings are in federation.yaml)
        grid: Grid,  # noqa: ARG002 (the rounds' own participation says whom to ask)
    ) -> Iterable[Message]:
        """Send the model to the participants, with the correction of their gradients."""
        self._asked = self.server.participants(server_round)
        return [self._order(server_round, client, arrays) for client in self._asked]

    def _order(self, server_round: int, client: int, arrays: ArrayRecord) -> Message:
        correction = self.server.correction(client)
        order = {"round": server_round, "scale": correction.scale}
        settings = ConfigRecord(dict(self.server.federation.settings))
        content = RecordDict({"model": arrays, "order": ConfigRecord(order), "settings": settings})
        if correction.offset:
            content["offset"] = ArrayRecord(dict(correction.offset))
        return Message(content, self.nodes[client], MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Merge the models of the clients that have finished.

        Raises:
            RuntimeError: participants were asked, and none has replied.
        """
        by_client = {self.clients[one.metadata.src_node_id]: one for one in replies}
        updates, diverged, lost = {}, {}, {}
        for client in self._asked:
            reply = by_client.get(client)
            if reply is None or reply.has_error():
                lost[client] = reply.error.reason if reply else "no reply in time"
            elif "diverged" in reply.content:
                diverged[client] = reply.content["diverged"]["reason"]
            else:
                updates[client] = _update(reply.content)
        for client, reason in {**lost, **diverged}.items():
            log(WARNING, "client %s is left out of round %s: %s", client, server_round, reason)
        if lost and len(lost) == len(self._asked):
            raise RuntimeError(f"no participant of round {server_round} finished: {lost}")
        merged = self.server.merge(server_round, updates)
        losses = [update.loss for update in updates.values()]
        record = {"round": server_round, "participants": len(updates), "lost": len(lost)}
        self.history.append({**record, "diverged": len(diverged)})
        mean = {"loss": sum(losses) / len(losses)} if losses else {}
        return ArrayRecord(merged.weights), MetricRecord({"participants": len(updates), **mean})

    def configure_evaluate(
        self,
        server_round: int,  # noqa: ARG002 (clients do not evaluate)
        arrays: ArrayRecord,  # noqa: ARG002
        config: ConfigRecord,  # noqa: ARG002
        grid: Grid,  # noqa: ARG002
    ) -> Iterable[Message]:
        """Ask no client: the server scores the model on val."""
        return []

    def aggregate_evaluate(
        self,
        server_round: int,
        replies: Iterable[Message],
    ) -> None:
        """Return nothing."""


def _update(content: RecordDict) -> Update:
    metrics = content["metrics"]
    model = content["model"].to_torch_state_dict()
    return Update(model, int(metrics["num-examples"]), float(metrics["loss"]))
