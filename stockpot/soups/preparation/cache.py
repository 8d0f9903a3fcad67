"""Cache of prepared statistics, keyed by everything that they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.soups.preparation.protocol import JointPreparation, Preparation
from stockpot.storage.checkpoints import load_tensors, save_checkpoint, verify
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from stockpot.merging.recipe import Recipe
    from stockpot.merging.states import State, StateDict


def prepare(  # noqa: PLR0913 (what it depends on)
    root: Path,
    workload: WorkloadSpec,
    model: Model,
    preparation: Preparation,
    *,
    seed: int,
    device: str,
    base: Model | None = None,
) -> Mapping[str, Any]:
    """Return the side information about a model, from the cache if it is there.

    Concurrent calls compute it once. Runs in a worker process.

    Args:
        root: the project root. The cache is in its `.stockpot/preparations`, not next to the
            model, whose folder belongs to the stage that made it. File names begin with the
            digest of the weights.
        workload: provides the train split.
        model: the model to compute statistics of.
        preparation: the computation, with its options.
        seed: seed of the choice of examples, and of other random numbers.
        device: where it is computed.
        base: the model that it was fine-tuned from, for preparations that use it.
    """
    used = {"base": base.digest} if base and preparation.uses_base else {}
    key = content_key(
        **used,
        digest=model.digest,
        preparation=repr(preparation),
        seed=seed,
        workload=workload.training_key_parts(),
        code=code_key(type(preparation).__module__, *workload.modules),
    )
    path = root / ".stockpot" / "preparations" / f"{model.digest}.{key}.safetensors"
    with Store(root).lock(key):
        if not path.is_file():
            weights = load_tensors(verify(root, model.checkpoint))
            start = load_tensors(verify(root, base.checkpoint)) if base and used else None
            computed = preparation.compute(
                workload.build(), weights, seed=seed, device=device, base=start
            )
            save_checkpoint(path, computed, {})
    return preparation.side_information(load_tensors(path))


def prepare_together(
    root: Path,
    workload: WorkloadSpec,
    models: Sequence[Model],
    preparation: JointPreparation,
    recipe: Recipe,
    device: str,
) -> tuple[Mapping[str, Any], ...]:
    """Return the side information about models that are merged with each other; as `prepare`.

    Args:
        root: the project root.
        workload: provides the train split.
        models: the models, in the order of the merge.
        preparation: the computation, with its options.
        recipe: of the merge, without side information; its seed is that of the examples.
        device: where it is computed.
    """
    from stockpot.merging.engine import merge_states
    from stockpot.merging.registry import METHODS

    modules = (type(preparation).__module__, METHODS.module_of(recipe.method), *workload.modules)
    key = content_key(
        digests=[model.digest for model in models],
        preparation=repr(preparation),
        recipe=[recipe.method, recipe.coefficients, dict(recipe.options)],
        seed=recipe.seed,
        workload=workload.training_key_parts(),
        code=code_key(*modules),
    )

    def merge(states: Sequence[State], known: Sequence[Mapping[str, Any]]) -> StateDict:
        return merge_states(states, replace(recipe, side_information=tuple(known)))

    path = root / ".stockpot" / "preparations" / f"{models[0].digest}.{key}.safetensors"
    with Store(root).lock(key):
        if not path.is_file():
            states = [load_tensors(verify(root, model.checkpoint)) for model in models]
            found = preparation.compute_together(
                workload.build(), states, merge, seed=recipe.seed, device=device
            )
            named = {f"{n} {name}": t for n, own in enumerate(found) for name, t in own.items()}
            save_checkpoint(path, named, {})
    cached: list[dict[str, Any]] = [{} for _ in models]
    for name, tensor in load_tensors(path).items():
        place, _, own = name.partition(" ")
        cached[int(place)][own] = tensor
    return tuple(cached)
