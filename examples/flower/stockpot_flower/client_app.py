"""The ClientApp: the local steps of one client, on its shard or its own machine's data."""

from __future__ import annotations

from functools import lru_cache

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from stockpot.ingredients.finetuning.divergence import Diverged
from stockpot.soups.rounds.rule import Correction
from stockpot_flower.federation import Federation, train

app = ClientApp()


@app.query()
def number(message: Message, context: Context) -> Message:
    """Tell the number of this client, from 0."""
    client = ConfigRecord({"client": context.node_config["partition-id"]})
    return Message(RecordDict({"node": client}), reply_to=message)


@app.train()
def local_steps(message: Message, context: Context) -> Message:
    """Train from the server's model; a diverged training is a reply without a model."""
    content, node = message.content, context.node_config
    offset = content["offset"].to_torch_state_dict() if "offset" in content else {}
    order, settings = content["order"], content["settings"]
    try:
        update = train(
            _federation(str(settings["experiment"]), str(settings["entry"])),
            int(order["round"]),
            int(node["partition-id"]),
            content["model"].to_torch_state_dict(),
            Correction(float(order["scale"]), offset),
            own_data=bool(node.get("own-data", False)),
        )
    except Diverged as error:
        reason = ConfigRecord({"reason": str(error)})
        return Message(RecordDict({"diverged": reason}), reply_to=message)
    metrics = MetricRecord({"num-examples": update.num_examples, "loss": update.loss})
    reply = RecordDict({"model": ArrayRecord(dict(update.model)), "metrics": metrics})
    return Message(reply, reply_to=message)


@lru_cache(maxsize=1)
def _federation(experiment: str, entry: str) -> Federation:
    return Federation.from_settings({"experiment": experiment, "entry": entry})
