"""Merging on disk: the bits of a merge in memory, whatever the files, threads and interruptions."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stockpot.disk_merging.planning.plan import plan_merge
from stockpot.disk_merging.streaming import planned_tensors, stream
from stockpot.disk_merging.streaming.stream import Output, merge_to_disk
from stockpot.errors import InputError
from stockpot.merging import runs
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.merging.registry import METHODS, Method
from stockpot.storage.weights.opening import open_source
from stockpot.storage.weights.output import ShardedOutput
from stockpot.storage.weights.safetensors_format import build_header

State = dict[str, Tensor]

REQUIRED = {"t": 0.4}  # a value for the options that have no default
LINEAR = Recipe("linear", (0.5, 0.3, 0.2))

LLAMA = {
    "model.embed_tokens.weight": (29, 8),
    **{
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(2)
        for name, shape in {
            "self_attn.q_proj": (8, 8),
            "self_attn.k_proj": (4, 8),
            "self_attn.o_proj": (8, 8),
            "mlp.gate_proj": (13, 8),
            "mlp.down_proj": (8, 13),
            "input_layernorm": (8,),
        }.items()
    },
    "model.norm.weight": (8,),
    "lm_head.weight": (29, 8),
    "logit_scale": (),
    "nothing": (0, 3),
    "no_columns": (3, 0),
}


# Of those that need nothing but weights.
ON_DISK = {
    name: method
    for name, method in METHODS.items()
    if method.side_information is None and name != "posterior_product"  # which needs fields
}


@pytest.fixture(params=ON_DISK.values(), ids=[*ON_DISK])
def method(request: pytest.FixtureRequest) -> Method:
    """Each merge method."""
    chosen: Method = request.param
    return chosen


# One method per path of the engine: entries alone, entries after measuring, random entries, whole
# tensors, and tensors of few models.
PATHS = pytest.mark.parametrize(
    "method",
    [METHODS[name] for name in ("linear", "ties", "dare_ties", "tsv", "slerp")],
    ids=lambda method: method.name,
)


@pytest.fixture
def _tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tensors of some hundred elements into pieces, and merge the larger ones alone."""
    monkeypatch.setattr(runs, "MOST_ENTRIES", 7)
    monkeypatch.setattr(stream, "_PIECE", 21)
    monkeypatch.setattr(planned_tensors, "_ALONE", 60)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _recipe(method: Method) -> Recipe:
    least, largest = method.num_models
    num_models = max(least, 3 if largest is None else min(largest, 3))
    coefficients = {1: (1.0,), 2: (0.7, 0.3), 3: (0.5, 0.3, 0.2)}[num_models]
    options = {name: REQUIRED[name] for name in method.options if name in REQUIRED}
    return Recipe(method.name, coefficients, options, seed=4)


def _state(seed: int, dtype: torch.dtype = torch.float32) -> State:
    """Draw a small model with BatchNorm statistics and integer buffers; all of one base."""
    base = torch.Generator().manual_seed(1000)
    own = torch.Generator().manual_seed(seed)
    state = {
        name: (torch.randn(shape, generator=base) + 0.1 * torch.randn(shape, generator=own))
        for name, shape in LLAMA.items()
    }
    state |= {
        "bn.running_mean": torch.randn(70, generator=own),
        "bn.running_var": torch.rand(70, generator=own),
    }
    return {name: tensor.to(dtype) for name, tensor in state.items()} | {
        "bn.num_batches_tracked": torch.tensor(10 + seed),
        "position_ids": torch.arange(9).view(1, 9),
        "mask": torch.tensor([True, False, True]),
    }


def _states(recipe: Recipe, dtype: torch.dtype = torch.float32) -> list[State]:
    return [_state(seed, dtype) for seed in range(len(recipe.coefficients))]


def _save(folder: Path, states: Sequence[State]) -> list[Path]:
    paths = [folder / f"{number}.safetensors" for number in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        save_file(state, path)
    return paths


def _merge(
    place: Path,
    paths: Sequence[Path],
    recipe: Recipe,
    base: Path | None = None,
    *,
    dtype: torch.dtype | None = None,
    num_threads: int = 2,
    max_shard_bytes: int = 10**9,
    on_bytes: stream.OnBytes = lambda _: None,
    complete_folder: Callable[[Path], Any] = lambda _: None,
) -> State:
    """Merge files to a place, and read the result with the format's own library."""
    sources = [open_source(path) for path in paths]
    plans = plan_merge(
        sources, None if base is None else open_source(base), lambda _: recipe, dtype
    )
    output = ShardedOutput(place, {plan.name: plan.type for plan in plans}, {}, max_shard_bytes)
    output.check()
    outputs = [Output(plans, output, "key", complete_folder)]
    merge_to_disk(outputs, num_threads=num_threads, on_bytes=on_bytes)
    files = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def _equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) and tensor.dtype == second[name].dtype
        for name, tensor in first.items()
    )


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_every_method_gives_the_bits_of_a_merge_in_memory(tmp_path: Path, method: Method) -> None:
    recipe = _recipe(method)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        states, base = _states(recipe, dtype), _state(99, dtype)
        [*paths, base_path] = _save(tmp_path, [*states, base])

        merged = _merge(tmp_path / f"{dtype}.safetensors", paths, recipe, base_path, num_threads=1)

        assert _equal(merged, merge_states(states, recipe, base)), dtype


@pytest.mark.usefixtures("_tiny_pieces")
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("model_stock", (1.0, 1.0, 1.0), {"filter_wise": True}),
        Recipe("della", (0.5, 0.3, 0.2), {"rescale": "l1", "density": (0.5, 0.0, 1.0)}),
        Recipe("della_linear", (0.5, 0.3, 0.2), {"rescale": "inverse"}),
        Recipe("sce", (1.0, 1.0, 1.0), {"select_topk": 0.3}),
    ],
    ids=lambda recipe: recipe.method,
)
@pytest.mark.parametrize(("most_entries", "dtype"), [(7, torch.bfloat16), (30, torch.float16)])
def test_rows_masks_and_variances_give_the_bits_of_a_merge_in_memory_in_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: Recipe,
    most_entries: int,
    dtype: torch.dtype,
) -> None:
    monkeypatch.setattr(runs, "MOST_ENTRIES", most_entries)  # less than a row, and some rows
    recipe = replace(recipe, masks="none")
    states, base = _states(recipe, dtype), _state(99, dtype)
    for state in (*states, base):  # many equal magnitudes, of both signs, and zeros
        state["lm_head.weight"] = (4 * state["lm_head.weight"]).round() / 4
    [*paths, base_path] = _save(tmp_path, [*states, base])

    merged = _merge(tmp_path / "soup.safetensors", paths, recipe, base_path, num_threads=2)

    assert _equal(merged, merge_states(states, recipe, base))


@PATHS
@pytest.mark.usefixtures("_tiny_pieces")
@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_a_merge_gives_the_same_bits_in_pieces_by_any_number_of_threads_in_any_shards(
    tmp_path: Path, method: Method, num_threads: int
) -> None:
    recipe = _recipe(method)
    states, base = _states(recipe), _state(99)
    [*paths, base_path] = _save(tmp_path, [*states, base])

    merged = _merge(
        tmp_path / "soup",
        paths,
        recipe,
        base_path,
        num_threads=num_threads,
        max_shard_bytes=900 * num_threads,
    )

    assert len(list((tmp_path / "soup").glob("*.safetensors"))) > 1
    assert _equal(merged, merge_states(states, recipe, base))


@PATHS
def test_the_bits_of_a_big_tensor_do_not_depend_on_the_number_of_threads(
    tmp_path: Path, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        planned_tensors, "_ALONE", 40_000
    )  # torch splits sums of more than 2^15 elements
    recipe = _recipe(method)
    generator = torch.Generator().manual_seed(8)
    states = [
        {"w": torch.randn(300, 170, generator=generator)}
        for _ in range(len(recipe.coefficients) + 1)
    ]
    [*paths, base] = _save(tmp_path, states)

    merged = [
        _merge(tmp_path / f"{n}-soup.safetensors", paths, recipe, base, num_threads=n)
        for n in (1, 2, 4)
    ]

    assert _equal(merged[0], merged[1])
    assert _equal(merged[0], merged[2])


@pytest.mark.usefixtures("_tiny_pieces")
def test_every_method_rounds_half_precision_once_to_the_dtype_that_is_asked_for(
    tmp_path: Path, method: Method
) -> None:
    recipe = _recipe(method)
    states, base = _states(recipe, torch.bfloat16), _state(99, torch.bfloat16)
    [*paths, base_path] = _save(tmp_path, [*states, base])

    merged = _merge(tmp_path / "soup", paths, recipe, base_path, dtype=torch.float32)

    assert _equal(merged, merge_states([_wide(state) for state in states], recipe, _wide(base)))


def _wide(state: State) -> State:
    return {n: t.float() if t.is_floating_point() else t for n, t in state.items()}


def test_the_inputs_may_be_shards_and_pickles_and_in_any_order(tmp_path: Path) -> None:
    states = _states(LINEAR)
    [first, *_] = _save(tmp_path, states)
    torch.save({"state_dict": dict(reversed(states[1].items()))}, tmp_path / "1.pt")
    shards = tmp_path / "shards"
    types = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in states[2].items()}
    output = ShardedOutput(shards, types, {}, 900)
    with output.opened("") as waiting:
        for shard in waiting:
            with output.writing(shard) as writer:
                for name in shard.tensors:
                    writer.write(name, states[2][name])

    merged = _merge(tmp_path / "soup", [first, tmp_path / "1.pt", shards], LINEAR)

    assert _equal(merged, merge_states(states, LINEAR))


def test_a_linear_merge_in_bfloat16_is_the_rounded_exact_result(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(7)
    states = [{"w": torch.randn(400, 500, generator=generator).bfloat16()} for _ in range(3)]

    coefficients = (0.517, 0.284, 0.199)  # with 0.5, 0.3, 0.2 a fifth of the sums are near a tie

    merged = _merge(tmp_path / "soup", _save(tmp_path, states), Recipe("linear", coefficients))

    first, second, third = (c * s["w"].double() for c, s in zip(coefficients, states, strict=True))
    exact = first + second + third
    assert (merged["w"] == exact.bfloat16()).sum() >= 0.999 * merged["w"].numel()
    torch.testing.assert_close(merged["w"].double(), exact, rtol=2**-8, atol=0)


@pytest.mark.usefixtures("_tiny_pieces")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_dtype_option_rounds_weights_alone(tmp_path: Path, dtype: torch.dtype) -> None:
    states = _states(LINEAR)

    merged = _merge(tmp_path / "soup", _save(tmp_path, states), LINEAR, dtype=dtype)

    in_memory = merge_states(states, LINEAR)
    variance = "bn.running_var"  # pooled in float64
    pooled = merge_states([_doubled(state) for state in states], LINEAR)[variance]
    expected = {n: t.to(dtype) if t.is_floating_point() else t for n, t in in_memory.items()}
    assert _equal(merged, expected | {variance: pooled.to(dtype)})


def _doubled(state: State) -> State:
    return {n: t.double() if t.is_floating_point() else t for n, t in state.items()}


def test_weights_of_several_dtypes_are_merged_in_the_widest_and_kept_in_the_bases(
    tmp_path: Path,
) -> None:
    third = torch.tensor([1.0, 2.0, 4.0]) / 3
    states = [{"w": third.bfloat16()}, {"w": third.double() * 5}, {"w": third.half()}]
    [*paths, base] = _save(tmp_path, states)
    recipe = Recipe("linear", (1.0, 1.0))

    merged = _merge(tmp_path / "soup", paths, recipe, base)

    exact = (states[0]["w"].double() + states[1]["w"]) / 2
    assert _equal(merged, {"w": exact.half()})
    kept = _merge(tmp_path / "other", [*reversed(paths)], recipe)
    assert _equal(kept, {"w": exact})


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
@pytest.mark.parametrize("name", ["linear", "ties"])
def test_weights_of_eight_bits_are_merged_in_float32(
    tmp_path: Path, dtype: torch.dtype, name: str
) -> None:
    recipe = Recipe(name, (0.5, 0.3, 0.2))
    states = [{"w": state["lm_head.weight"].to(dtype)} for state in [*_states(recipe), _state(9)]]
    [*paths, base] = _save(tmp_path, states)

    merged = _merge(tmp_path / "soup", paths, recipe, base)

    *wide, wide_base = [{"w": state["w"].float()} for state in states]
    expected = merge_states(wide, recipe, wide_base)["w"].to(dtype)
    assert torch.equal(merged["w"].view(torch.uint8), expected.view(torch.uint8))


def test_integer_buffers_are_kept_or_counted_and_never_averaged(tmp_path: Path) -> None:
    merged = _merge(tmp_path / "soup", _save(tmp_path, _states(LINEAR)), LINEAR)

    assert torch.equal(merged["bn.num_batches_tracked"], torch.tensor(12))
    assert torch.equal(merged["position_ids"], torch.arange(9).view(1, 9))
    assert torch.equal(merged["mask"], torch.tensor([True, False, True]))


def test_integer_buffers_that_differ_are_refused(tmp_path: Path) -> None:
    states = _states(LINEAR)
    states[2]["mask"] = torch.tensor([True, True, True])
    paths = _save(tmp_path, states)

    with pytest.raises(InputError, match="tensor 'mask': integer buffers of the models differ"):
        _merge(tmp_path / "soup", paths, LINEAR)

    assert not (tmp_path / "soup").exists()


@PATHS
@pytest.mark.usefixtures("_tiny_pieces")
@pytest.mark.parametrize(
    ("tensor", "value"),
    [("lm_head.weight", torch.nan), ("model.norm.weight", torch.inf), ("logit_scale", -torch.inf)],
)
def test_a_value_that_is_not_finite_is_refused_by_file_and_tensor(
    tmp_path: Path, method: Method, tensor: str, value: float
) -> None:
    recipe = _recipe(method)
    states = _states(recipe)
    states[-1][tensor].view(-1)[-1] = value
    [*paths, base] = _save(tmp_path, [*states, _state(99)])

    message = f"^{paths[-1]}: tensor '{tensor}': has a value that is not finite$"
    with pytest.raises(InputError, match=message):
        _merge(tmp_path / "soup", paths, recipe, base)

    assert not (tmp_path / "soup").exists()


@pytest.mark.parametrize("tensor", ["bn.running_mean", "bn.running_var"])
def test_statistics_that_are_not_finite_are_refused_by_file_and_tensor(
    tmp_path: Path, tensor: str
) -> None:
    states = _states(LINEAR)
    states[1][tensor][3] = torch.inf
    paths = [tmp_path / f"{number}.pt" for number in range(3)]
    for path, state in zip(paths, states, strict=True):
        torch.save(dict(reversed(state.items())), path)  # variances come before their means

    with pytest.raises(InputError, match=f"^{paths[1]}: tensor '{tensor}': has a value that is"):
        _merge(tmp_path / "soup", paths, LINEAR, num_threads=1)


def test_a_base_that_is_not_finite_is_refused_by_file_and_tensor(tmp_path: Path) -> None:
    base = _state(99)
    base["lm_head.weight"][0, 0] = torch.nan
    [*paths, base_path] = _save(tmp_path, [*_states(LINEAR), base])

    message = f"^{base_path}: tensor 'lm_head.weight': has a value that is not finite$"
    with pytest.raises(InputError, match=message):
        _merge(tmp_path / "soup", paths, replace(LINEAR, method="ties"), base_path)


@pytest.mark.parametrize(
    ("dtype", "value", "limit"),
    [
        (torch.float16, 7e4, "6.55e\\+04"),
        (torch.float8_e5m2, 7e4, "5.73e\\+04"),
        (torch.float8_e4m3fn, 500.0, "448"),
        (torch.bfloat16, 3.4e38, "3.39e\\+38"),
    ],
    ids=str,
)
def test_what_is_too_large_for_the_dtype_is_refused_by_tensor(
    tmp_path: Path, dtype: torch.dtype, value: float, limit: str
) -> None:
    paths = _save(tmp_path, [{"w": torch.tensor([1.0, -value])}])

    message = f"tensor 'w': the merged values reach .*, the largest in {dtype} is {limit}; choose"
    with pytest.raises(InputError, match=message):
        _merge(tmp_path / "soup", paths, Recipe("linear", (1.0,)), dtype=dtype)

    assert not (tmp_path / "soup").exists()


def test_large_values_whose_sum_overflows_are_merged(tmp_path: Path) -> None:
    state = {"w": torch.full((4,), 3e38), "v": torch.full((4,), 1e300, dtype=torch.float64)}

    merged = _merge(tmp_path / "soup", _save(tmp_path, [state]), Recipe("linear", (1.0,)))

    assert _equal(merged, state)


def _without(state: State, name: str) -> State:
    return {other: tensor for other, tensor in state.items() if other != name}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (_without(_state(2), "mask"), "2.safetensors: lacks mask, which 0.safetensors has"),
        (_state(2) | {"more": torch.ones(1)}, "0.safetensors: lacks more, which 2.safetensors has"),
        (_state(2) | {"lm_head.weight": torch.ones(28, 8)}, "'lm_head.weight': has shape"),
        (_state(2) | {"logit_scale": torch.tensor(3)}, "'logit_scale': integer in some models"),
        (
            _state(2) | {"mask": torch.ones(3)},
            "'mask': integer in some models, floating-point in others",
        ),
    ],
    ids=["missing", "additional", "shape", "integer", "float"],
)
def test_models_that_differ_are_refused_before_anything_is_written(
    tmp_path: Path, changed: State, message: str
) -> None:
    paths = _save(tmp_path, [_state(0), _state(1), changed])
    before = _digests(tmp_path)

    with pytest.raises(InputError, match=message):
        _merge(tmp_path / "soup", paths, LINEAR)

    assert _digests(tmp_path) == before


def test_a_variance_without_its_mean_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    paths = _save(tmp_path, [_without(_state(seed), "bn.running_mean") for seed in range(3)])

    with pytest.raises(InputError, match=r"'bn.running_var': cannot be merged without 'bn.running"):
        _merge(tmp_path / "soup", paths, LINEAR)

    assert sorted(tmp_path.iterdir()) == paths


@PATHS
def test_inputs_that_cannot_be_written_to_are_merged_and_stay_as_they_are(
    tmp_path: Path, method: Method
) -> None:
    recipe = _recipe(method)
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    [*paths, base] = _save(inputs, [*_states(recipe), _state(99)])
    for path in (*paths, base):
        path.chmod(0o444)
    before = _digests(inputs)

    _merge(tmp_path / "soup", paths, recipe, base)

    assert _digests(inputs) == before


@pytest.mark.usefixtures("_tiny_pieces")
def test_what_is_told_of_progress_adds_up_to_all_that_is_read(tmp_path: Path) -> None:
    states = _states(LINEAR)
    told: list[int] = []

    _merge(tmp_path / "soup", _save(tmp_path, states), LINEAR, on_bytes=told.append)

    assert len(told) > len(states[0])  # big tensors tell of each piece
    assert sum(told) == sum(tensor.nbytes for state in states for tensor in state.values())


@pytest.mark.parametrize("num_threads", [1, 3])
def test_after_an_interrupt_nothing_more_is_started_and_nothing_has_the_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_threads: int
) -> None:
    started: list[Tensor] = []

    def slow(tensors: Sequence[Tensor]) -> Tensor:
        started.append(tensors[0])
        time.sleep(0.01 * num_threads)
        return tensors[0]

    monkeypatch.setitem(METHODS._found, "slow", Method("slow", slow))
    paths = _save(tmp_path, [{f"{number}": torch.ones(1) for number in range(300)}])
    told: list[int] = []

    def interrupt(num_bytes: int) -> None:
        told.append(num_bytes)
        if len(told) > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _merge(
            tmp_path / "soup",
            paths,
            Recipe("slow", (1.0,)),
            num_threads=num_threads,
            on_bytes=interrupt,
        )

    assert 0 < len(started) < 100
    assert {path.name for path in tmp_path.iterdir()} == {"0.safetensors", ".soup.merging"}


def test_files_beside_the_weights_appear_together_with_them(tmp_path: Path) -> None:
    paths = _save(tmp_path, _states(LINEAR))

    _merge(
        tmp_path / "soup",
        paths,
        LINEAR,
        complete_folder=lambda folder: (folder / "config.json").write_text("{}"),
    )

    assert [*_digests(tmp_path / "soup")] == ["config.json", "model.safetensors"]


def test_after_an_error_beside_the_weights_these_are_not_merged_again(tmp_path: Path) -> None:
    paths = _save(tmp_path, _states(LINEAR))
    told: list[int] = []
    with pytest.raises(FileNotFoundError):
        _merge(
            tmp_path / "soup",
            paths,
            LINEAR,
            complete_folder=lambda folder: (folder / "gone" / "config.json").write_text("{}"),
        )
    is_named = (tmp_path / "soup").exists()

    merged = _merge(tmp_path / "soup", paths, LINEAR, on_bytes=told.append)

    assert not is_named
    assert told == [sum(open_source(path).num_bytes for path in paths)]
    assert _equal(merged, merge_states(_states(LINEAR), LINEAR))


KILLED = """
    import os, signal, sys, time
    from pathlib import Path

    from stockpot.merging.recipe import Recipe
    from stockpot.disk_merging.planning.plan import plan_merge
    from stockpot.disk_merging.streaming.stream import Output, merge_to_disk
    from stockpot.storage.weights.opening import open_source
    from stockpot.storage.weights.output import ShardedOutput

    folder, second = Path(sys.argv[1]), "model-00002"
    sources = [open_source(folder / f"{number}.safetensors") for number in range(3)]
    plans = plan_merge(sources, None, lambda _: Recipe("linear", (0.5, 0.3, 0.2)))
    output = ShardedOutput(folder / "soup", {p.name: p.type for p in plans}, {}, 1500)

    def slow(num_bytes):
        time.sleep(0.01)
        if any(second in file.name for file in output.work.iterdir()):
            os.kill(os.getpid(), signal.SIGKILL)

    merge_to_disk([Output(plans, output, "key")], num_threads=2, on_bytes=slow)
"""


def _run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_a_merge_that_was_killed_goes_on_with_the_shards_that_were_not_finished(
    tmp_path: Path,
) -> None:
    paths = _save(tmp_path, _states(LINEAR))
    _merge(tmp_path / "undisturbed", paths, LINEAR, max_shard_bytes=1500)
    told: list[int] = []

    killed = _run(KILLED, tmp_path)
    left = sorted(file.name for file in (tmp_path / ".soup.merging").glob("*.safetensors"))
    first = (tmp_path / ".soup.merging" / left[0]).stat()
    is_named = (tmp_path / "soup").exists()
    _merge(tmp_path / "soup", paths, LINEAR, max_shard_bytes=1500, on_bytes=told.append)

    assert killed.returncode == -9, killed.stderr
    assert not is_named
    assert [name[:11] for name in left] == ["model-00001", "model-00002"]
    assert (tmp_path / "soup" / left[0]).stat().st_mtime_ns == first.st_mtime_ns
    assert (tmp_path / "soup" / left[0]).stat().st_ino == first.st_ino
    assert _digests(tmp_path / "soup") == _digests(tmp_path / "undisturbed")
    assert sum(told) == sum(source.num_bytes for source in map(open_source, paths))
    assert not (tmp_path / ".soup.merging").exists()


MEASURED = """
    import sys, threading
    from pathlib import Path

    from stockpot.merging.recipe import Recipe
    from stockpot.disk_merging.planning.plan import plan_merge
    from stockpot.disk_merging.streaming.stream import Output, merge_to_disk
    from stockpot.storage.weights.opening import open_source
    from stockpot.storage.weights.output import ShardedOutput

    def anonymous():
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))

    def watch():
        while not finished.wait(0.02):
            measured.append(anonymous())

    folder = Path(sys.argv[1])
    sources = [open_source(file) for file in sorted(folder.glob("*.safetensors"))]
    plans = plan_merge(sources, None, lambda _: Recipe("linear", (1.0,) * len(sources)))
    output = ShardedOutput(folder / "soup", {p.name: p.type for p in plans}, {}, 10**9)
    measured, finished = [anonymous()], threading.Event()
    watching = threading.Thread(target=watch)
    watching.start()
    merge_to_disk([Output(plans, output, "key")], num_threads=2, on_bytes=lambda _: None)
    finished.set()
    watching.join()
    assert len(measured) > 5
    print(sum(source.num_bytes for source in sources), max(measured) - measured[0])
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux counts it")
def test_memory_stays_far_below_the_size_of_the_models(tmp_path: Path) -> None:
    types = {"embedding": (torch.bfloat16, (9_000, 2_000)), "head": (torch.bfloat16, (500, 4_000))}
    head, _ = build_header(types, {})
    for number in range(12):
        path = tmp_path / f"{number:02d}.safetensors"
        path.write_bytes(head)
        os.truncate(path, len(head) + 40_000_000)  # all zeros, and takes no room

    measured = _run(MEASURED, tmp_path)

    num_bytes, peak = map(int, measured.stdout.split())
    assert num_bytes == 12 * 40_000_000
    assert peak < num_bytes / 4
    assert (tmp_path / "soup" / "model.safetensors").stat().st_size == len(head) + 40_000_000
