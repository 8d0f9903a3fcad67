"""The cost of choosing: candidates merged and scored on val, against the procedure that all copy.

    python benchmarks/choosing.py digits [INGREDIENTS]    greedy soup, conv net of 37 000 parameters
    python benchmarks/choosing.py minilm FOLDER           greedy soup, 22 M parameters
    python benchmarks/choosing.py scaling                 time of greedy for 8 to 128 ingredients
    python benchmarks/choosing.py merge                   the merge alone: bandwidth, TIES
    python benchmarks/choosing.py memory                  private memory while candidates are scored

The procedure that it is compared with is `plain_greedy`: for each candidate, load the state dict
of every member, average by dictionary comprehension, and run the whole val set, in batches padded
to their longest text. Both choose from the same files in one process, and both know the scores of
the ingredients. All times are CPU seconds of one thread.

`minilm` needs examples/sentiment's packages. Its first run trains 16 ingredients in FOLDER, some of
them with rates that are too high; an interrupted run continues.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from library_run import ThisProcess, plan_in, train_sweep
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.merging.engine import StateMerger
from stockpot.merging.recipe import Recipe
from stockpot.merging.stack import IngredientStack
from stockpot.scoring.val_scores import ValScorer, score_on_val
from stockpot.storage.checkpoints import load_tensors, save_checkpoint, verify
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.storage.store import Store
from stockpot.workloads.passes import empty_model
from stockpot.workloads.spec import WorkloadSpec

DIGITS, BERT = WorkloadSpec("digits", 0), WorkloadSpec("random_bert:RandomBert", 0)
_SENTIMENT = Path(__file__).resolve().parents[1] / "examples" / "sentiment"
_MINILM = """
workload:
  name: text_classification
  val_shifts: []
  test_shifts: []
  options: {model: model, data: data}
base: {epochs: 0, probe_epochs: 2, learning_rate: 0.01, batch_size: 16}
sweep:
  size: 16
  space:
    learning_rate: {log_uniform: [5.0e-5, 5.0e-4]}
    epochs: 1
    batch_size: 16
soups: [{name: greedy, select: greedy}]
"""


def digits(count: str = "64") -> None:
    """Greedy on digits."""
    with tempfile.TemporaryDirectory() as folder:
        _compare(digits_job(Path(folder), int(count)), batch_size=128, goal=5)


def digits_job(root: Path, count: int) -> SoupJob:
    """Return the greedy selection among some ingredients of the digits."""
    return _job(root, _digit_states(count))


def minilm(folder: str) -> None:
    """Greedy on fine-tuned ingredients of MiniLM, on 400 texts."""
    root = Path(folder).resolve()
    root.mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    if not (root / "data").exists():
        shutil.copy(_SENTIMENT / "prepare.py", root)
        subprocess.run([sys.executable, "prepare.py", "2"], check=True)
        train = root / "data" / "train.csv"  # 20 steps take 7 s for each ingredient
        train.write_text("".join(train.read_text().splitlines(keepends=True)[:321]))
    (root / "params.yaml").write_text(_MINILM)
    plan = plan_in(root, root / "params.yaml", ())
    listed = root / "ingredients.json"  # those of other code are used again
    if not listed.exists():
        train_sweep(plan, ThisProcess())
        models = [make_model(job, "cpu") for job in plan.ingredient_jobs()]
        listed.write_text(json.dumps([model.to_json() for model in models]))
    models = [
        score_on_val(root, plan.workload, Model.from_json(entry), "cpu")  # as the sweep has done
        for entry in json.loads(listed.read_text())
    ]
    _compare(_soup_job(root, plan.workload, models), batch_size=32, goal=3)


def scaling() -> None:
    """Print the time of greedy by the number of ingredients; the limit is the same for each."""
    states = _digit_states(128)
    for count in (2, 8, 16, 32, 64, 128):  # the first with imports
        with tempfile.TemporaryDirectory() as folder:
            job = _job(Path(folder), states[:count])
            seconds, _ = _cpu(partial(job.work, "cpu"))
        print(f"{count:4d} ingredients {seconds:6.2f} s, {1e3 * seconds / count:5.1f} ms for each")


def merge() -> None:
    """Print how fast 16 models of 22 M parameters are merged, and what a TIES candidate takes."""
    base, *states = _moved(BERT, 17, 1e-3)
    size = sum(tensor.nbytes for tensor in base.values())
    read = _least(lambda: [tensor.sum() for state in states for tensor in state.values()])
    stack, merger = IngredientStack(states), StateMerger(states, base)
    weights = tuple(0.05 + 0.01 * number for number in range(16))
    tuned = _least(lambda: stack.merge(weights, reuse=True))
    added = _least(lambda: stack.mean_of(range(16), reuse=True))
    ties = Recipe("ties", weights, {"density": 0.2})
    trimmed = _least(lambda: merger.merge(ties))
    print(f"read all models         {read:6.3f} s {16 * size / read / 1e9:5.1f} GB/s, the limit")
    print(f"weighted average of 16  {tuned:6.3f} s {read / tuned:5.2f} of the limit, goal 0.80")
    print(f"one added to 15         {added:6.3f} s {2 * read / 16 / added:5.2f} of the limit")
    print(f"TIES of 16, trims known {trimmed:6.3f} s {trimmed / tuned:5.2f} x linear, goal 4")


def memory() -> None:
    """Print the private memory while averages of 16 models in files are scored, in models."""
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.safetensors" for number in range(16)]
        for number, path in enumerate(paths):
            [state] = _moved(BERT, 1, 1e-3 * number)
            size = sum(tensor.nbytes for tensor in state.values())
            save_checkpoint(path, state, {})
        del state
        scorer = ValScorer(BERT.build(), "cpu")
        scorer.val(load_tensors(paths[0]))
        before, most = _private(), 0  # with the activations; the weights are in a mapped file
        stack = IngredientStack([load_tensors(path) for path in paths])
        for members in ([0], [0, 1], range(15), range(16)):
            scorer.val(stack.mean_of(members, reuse=True))
            most = max(most, _private())
    print(f"16 models in files: {(most - before) / size:.2f} models of private memory")
    print("besides activations; goal 3, limit 1, the candidate itself")


def plain_greedy(
    paths: Sequence[Path], order: Sequence[int], spec: WorkloadSpec, batch_size: int
) -> list[int]:
    """Choose as published code does it, with everything anew for each candidate."""
    workload = spec.build()
    model = empty_model(workload, "cpu")
    soup: list[int] = []
    best = -1.0
    for candidate in order:
        states = [torch.load(paths[member]) for member in [*soup, candidate]]
        model.load_state_dict(
            {name: sum(state[name] for state in states) / len(states) for name in states[0]}
        )
        correct = 0
        with torch.no_grad():
            for batch in DataLoader(workload.dataset("val"), batch_size=batch_size):
                outputs = workload.forward(model, tuple(batch))
                correct += int((outputs.argmax(dim=1) == batch[-1]).sum())
        if correct >= best:
            best = correct
            soup.append(candidate)
    return soup


def _compare(job: SoupJob, batch_size: int, goal: float) -> None:
    """Choose in both ways; ours reads ingredients, scores candidates, and saves the soup."""
    replace(job, ingredients=job.ingredients[:2]).work("cpu")  # imports
    ours, soup = _cpu(lambda: job.work("cpu"))
    order = rank(job.ingredients, job.metric)
    states = [load_tensors(verify(job.root, model.checkpoint)) for model in job.ingredients]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.pt" for number in range(len(states))]
        for path, state in zip(paths, states, strict=True):
            torch.save(state, path)
        plain, accepted = _cpu(lambda: plain_greedy(paths, order, job.workload, batch_size))
    scorer = ValScorer(job.workload.build(), "cpu")
    passes = len(states) * _least(lambda: scorer.val(states[0]), rounds=2)
    names = [job.ingredients[place].name for place in accepted]
    is_same = soup.details["coefficients"].keys() == set(names)  # tried in the same order
    print(f"{len(states)} ingredients, {len(accepted)} accepted, the same: {is_same}")
    print(f"val {' '.join(f'{job.ingredients[one].scores[job.metric]:.4f}' for one in order)}")
    print(f"plain procedure           {plain:7.2f} s")
    print(f"greedy                    {ours:7.2f} s, {plain / ours:.2f} x as fast, goal {goal}")
    print(f"full passes over val only {passes:7.2f} s, {plain / passes:.2f} x")


def _job(root: Path, states: Sequence[Mapping[str, Tensor]]) -> SoupJob:
    """Return the greedy selection among ingredients of the digits."""
    store = Store(root)
    models: list[Model] = []
    for number, state in enumerate(states):
        made = store.save(
            "ingredient", f"{number:020x}", str(number), state, {"hyperparameters": {}}
        )
        models.append(score_on_val(root, DIGITS, made, "cpu"))
    return _soup_job(root, DIGITS, models)


def _soup_job(root: Path, spec: WorkloadSpec, models: Sequence[Model]) -> SoupJob:
    return SoupJob(
        root=root, workload=spec, name="greedy", select="greedy", method="linear", options={},
        base=models[0], seed=0, ingredients=tuple(models), metric="val/accuracy",
    )  # fmt: skip


def _digit_states(count: int) -> list[dict[str, Tensor]]:
    """Fine-tune a base for few steps, each time with another learning rate and order."""
    workload = DIGITS.build()
    data = workload.dataset("train").tensors
    model = empty_model(workload, "cpu")
    _train(model, data, steps=150, rate=0.1, seed=0)
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = []
    for number in range(count):
        model.load_state_dict(base)
        _train(model, data, steps=40, rate=0.02 * 1.01**number, seed=number)
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return states


def _train(net: nn.Module, data: Sequence[Tensor], *, steps: int, rate: float, seed: int) -> None:
    images, targets = data
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    for _ in range(steps):
        drawn = torch.randint(len(images), (32,), generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images[drawn]), targets[drawn]).backward()
        optimizer.step()


def _moved(spec: WorkloadSpec, count: int, distance: float) -> list[dict[str, Tensor]]:
    """Return copies of the untrained model with noise."""
    start = empty_model(spec.build(), "cpu").state_dict()
    generator = torch.Generator().manual_seed(0)
    return [
        {
            name: tensor + distance * torch.randn(tensor.shape, generator=generator)
            for name, tensor in start.items()
        }
        for _ in range(count)
    ]


def _cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def _least(work: Callable[[], Any], rounds: int = 4) -> float:
    """Return the time of the fastest of some rounds, after one that is not counted."""
    work()
    return min(_cpu(work)[0] for _ in range(rounds))


def _private() -> int:
    """Return the memory of this process that is not of mapped files, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    parts = {f.__name__: f for f in (digits, minilm, scaling, merge, memory)}
    parts[sys.argv[1]](*sys.argv[2:])
