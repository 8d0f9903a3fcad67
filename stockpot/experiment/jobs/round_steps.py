"""The steps of rounds, in a worker process: start, train a client, merge the models of a round."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from torch import Tensor

from stockpot.experiment.federation import ClientJob, Federation
from stockpot.experiment.jobs.job import CannotMake
from stockpot.experiment.round_files import Update
from stockpot.ingredients.finetuning.divergence import Diverged
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.local_steps import LocalSteps
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.partial_state import PartialState
from stockpot.ingredients.shards import class_counts, labels_of, split_into_shards
from stockpot.merging.states import State
from stockpot.scoring.val_scores import val_score
from stockpot.seeding import seeded_generator
from stockpot.soups.rounds.rule import Merged, Round
from stockpot.soups.rounds.seeds import client_seed
from stockpot.storage.checkpoints import load_tensors, verify
from stockpot.workloads.batches import num_examples
from stockpot.workloads.protocol import Workload
from stockpot.workloads.spec import WorkloadSpec


def begin_rounds(federation: Federation, rounds: int, _device: str) -> int:
    """Save the model before the first round, unless rounds are done; return their number.

    Raises:
        InputError: train has fewer examples than there are clients.
    """
    files = federation.files
    done = files.number
    if done is not None and done <= rounds:
        return done
    _shards(federation)
    files.clear()  # a state after more rounds does not lead back to one after fewer
    files.save(0, Merged(dict(_first_model(federation))), {})
    return 0


def train_client(job: ClientJob, device: str) -> None:
    """Do the local steps of a client, unless its model is saved or it was left out."""
    federation, files = job.federation, job.federation.files
    if files.update(job.number, job.client) is not None or job.is_lost:
        return
    rule, how = federation.build(), _client_hyperparameters(job)
    own = files.own().get(job.client, {})
    correction = rule.correction(files.memory(), own)
    start = rule.start_of(files.model(), own)
    if federation.is_random and not rule.has_server and not own:
        start = _initial_weights(federation.workload.build(), how.seed)
    rows = _shards(federation)[job.client]
    local = LocalSteps(rows, federation.local_steps, correction.scale, correction.offset)
    file = f"{federation.key}-{job.number}-{job.client}.safetensors"
    try:
        weights = fine_tune(
            federation.workload.build(),
            start,
            how,
            split="train",
            device=device,
            partial=PartialState(
                federation.root / ".stockpot" / "partial" / file, federation.save_every_seconds
            ),
            local=local,
        )
    except Diverged as error:
        files.save_diverged(job.number, job.client, str(error))
        return
    assert weights.first_loss is not None, "a client has at least one step"
    files.save_update(job.number, job.client, weights, weights.first_loss)


def merge_round(federation: Federation, number: int, device: str) -> None:
    """Merge the models of a round's participants; each is saved, or was left out.

    Raises:
        CannotMake: a merged weight is not finite.
    """
    files = federation.files
    if (files.number or 0) >= number:  # a worker that was lost afterwards has finished it
        return
    jobs = [job for job in federation.client_jobs(number) if not job.is_lost]
    updates = {job.client: _update(job) for job in jobs}
    models = {c: load_tensors(one.path) for c, one in updates.items() if not one.diverged}
    sizes = [len(shard) for shard in _shards(federation)]
    done = Round(
        number=number,
        seed=federation.seed,
        num_clients=federation.num_clients,
        start=files.model(),
        models=models,
        num_examples={client: sizes[client] for client in models},
        path=federation.hyperparameters.learning_rate * federation.local_steps,
        memory=files.memory(),
        own=files.own(),
    )
    rule = federation.build()
    merged = rule.merge(done) if models else rule.without_participants(done)
    for name, tensor in merged.weights.items():
        if not tensor.isfinite().all():
            raise CannotMake(f"weight {name!r} of the merged model is not finite in round {number}")
    files.save(number, merged, _record(federation, number, updates, merged, device))


def division_of(federation: Federation) -> dict[str, Any]:
    """Return how train is divided among the clients, for the record."""
    labels, shards = _labels(federation.workload), _shards(federation)
    how = "at random, in equal sizes"
    if federation.shards == "dirichlet":
        how = f"each class by a Dirichlet distribution of {federation.concentration:g}"
        if labels is None:
            how = f"at random, in equal sizes: the task is {federation.workload.build().task}"
    return {
        "division": how,
        "shard_sizes": [len(shard) for shard in shards],
        "shard_classes": class_counts(labels, shards),
    }


def _update(job: ClientJob) -> Update:
    update = job.federation.files.update(job.number, job.client)
    assert update is not None, f"{job.name} has not finished"
    return update


def _record(
    federation: Federation,
    number: int,
    updates: dict[int, Update],
    merged: Merged,
    device: str,
) -> dict[str, Any]:
    """Return what is recorded of a finished round."""
    shares = {client: merged.shares.get(client, 0.0) for client in updates}
    diverged = {client: one.diverged for client, one in updates.items() if one.diverged}
    return {
        "round": number,
        "participants": len(updates) - len(diverged),
        "score": val_score(federation.workload.build(), merged.weights, device),
        "clients": {
            str(client): {"loss": one.loss, "share": shares[client]}
            for client, one in updates.items()
            if client not in diverged
        },
        "diverged": {str(client): reason for client, reason in diverged.items()},
        "lost": {str(c): reason for c, reason in federation.files.lost().get(number, {}).items()},
    }


def _client_hyperparameters(job: ClientJob) -> Hyperparameters:
    """Return the hyperparameters with a seed of this client and round."""
    shared = job.federation.hyperparameters
    return replace(shared, seed=client_seed(shared.seed, job.number, job.client))


def _first_model(federation: Federation) -> State:
    if federation.is_random:
        return _initial_weights(federation.workload.build(), federation.seed)
    return load_tensors(verify(federation.root, federation.base))


def _initial_weights(workload: Workload, seed: int) -> State:
    model = workload.build_model(seeded_generator(seed, "weights"))
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@lru_cache(maxsize=4)
def _shards(federation: Federation) -> list[Tensor]:
    """Return the rows of train of each client."""
    spec = federation.workload
    labels = _labels(spec) if federation.shards == "dirichlet" else None
    return split_into_shards(
        labels,
        num_examples(spec.build().dataset("train")),
        federation.num_clients,
        federation.concentration,
        federation.seed,
    )


@lru_cache(maxsize=4)
def _labels(spec: WorkloadSpec) -> Tensor | None:
    return labels_of(spec.build(), "train")
