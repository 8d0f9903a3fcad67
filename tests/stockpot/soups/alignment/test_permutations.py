from __future__ import annotations

import pytest
import torch
from alignment_nets import NETS, outputs, random_inputs, random_state, seeded
from torch import Generator, Tensor

from stockpot.errors import InputError
from stockpot.soups.alignment import Spec, check_spec, permute, random_permutations, trace_spec
from stockpot.soups.alignment.permutations import compose, identity_permutations

# Three units, flattened to two entries a unit; then read by the next layer.
STATE = {"a.weight": torch.arange(12.0).view(3, 4), "b.weight": torch.arange(12.0).view(2, 6)}
SPEC: Spec = {"a.weight": ("P", None), "b.weight": (None, ("P", 2))}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(3))
def test_a_permuted_net_computes_the_same(name: str, seed: int) -> None:
    generator = Generator().manual_seed(seed)
    net = NETS[name]()
    state = random_state(net, generator)
    inputs = random_inputs(generator)
    spec = trace_spec(seeded(net), inputs)
    drawn = random_permutations(check_spec(spec, state), generator)

    permuted = permute(state, spec, drawn)

    torch.testing.assert_close(
        outputs(net, permuted, inputs), outputs(net, state, inputs), atol=1e-5, rtol=1e-5
    )
    assert all(not torch.equal(permuted[x], state[x]) for x in state if any(spec[x]))


@pytest.mark.parametrize("name", NETS)
def test_permuting_keeps_the_singular_values_of_each_weight(name: str) -> None:
    generator = Generator().manual_seed(0)
    net = NETS[name]()
    state = random_state(net, generator)
    spec = trace_spec(seeded(net), random_inputs(generator))

    permuted = permute(state, spec, random_permutations(check_spec(spec, state), generator))

    for weight in (x for x in state if state[x].ndim > 1):
        torch.testing.assert_close(
            torch.linalg.svdvals(permuted[weight].flatten(1)),
            torch.linalg.svdvals(state[weight].flatten(1)),
            atol=1e-5,
            rtol=1e-5,
        )


def test_permuting_moves_rows_and_blocks_of_columns() -> None:
    permuted = permute(STATE, SPEC, {"P": torch.tensor([2, 0, 1])})

    assert torch.equal(permuted["a.weight"], STATE["a.weight"][[2, 0, 1]])
    assert torch.equal(permuted["b.weight"], STATE["b.weight"][:, [4, 5, 0, 1, 2, 3]])


def test_permuting_leaves_its_input_and_does_not_share_memory_with_it() -> None:
    state = {name: tensor.clone() for name, tensor in STATE.items()} | {"c": torch.ones(2)}

    permuted = permute(state, {**SPEC, "c": (None,)}, {"P": torch.tensor([0, 1, 2])})
    for tensor in permuted.values():
        tensor.zero_()

    assert torch.equal(state["a.weight"], STATE["a.weight"])
    assert torch.equal(state["c"], torch.ones(2))


def test_permuting_keeps_dtypes_and_counters() -> None:
    state = {"norm.weight": torch.ones(3).half(), "norm.num_batches_tracked": torch.tensor(7)}
    spec: Spec = {"norm.weight": ("P",), "norm.num_batches_tracked": ()}

    permuted = permute(state, spec, {"P": torch.tensor([1, 2, 0])})

    assert permuted["norm.weight"].dtype == torch.float16
    assert torch.equal(permuted["norm.num_batches_tracked"], torch.tensor(7))


def test_composed_permutations_are_one_after_the_other() -> None:
    generator = Generator().manual_seed(0)
    first, then = (random_permutations({"P": 3}, generator) for _ in range(2))

    composed = permute(STATE, SPEC, compose(first, then))

    one_by_one = permute(permute(STATE, SPEC, first), SPEC, then)
    assert all(torch.equal(composed[name], one_by_one[name]) for name in STATE)


def test_random_permutations_depend_on_their_generator_alone() -> None:
    sizes = {"P": 20, "Q": 30}

    drawn = [random_permutations(sizes, Generator().manual_seed(seed)) for seed in (1, 1, 2)]

    assert torch.equal(drawn[0]["Q"], drawn[1]["Q"])
    assert not torch.equal(drawn[0]["Q"], drawn[2]["Q"])


def test_a_checked_spec_gives_the_size_of_each_permutation() -> None:
    assert check_spec(SPEC, STATE) == {"P": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c.weight": ("P",)}, "every tensor must be one of the model, got 'c.weight'"),
        ({"a.weight": ("P",)}, "must have one entry per axis, got 1 for 2 axes"),
        ({"a.weight": (None, "P")}, "'P' must have one size, got 4 on axis 1 of 'a.weight' and 3"),
        ({"b.weight": (None, ("P", 4))}, "a block must divide its axis, got 4 for axis 1 of"),
        ({"b.weight": (None, ("P", 0))}, "a block must divide its axis, got 0"),
        ({"a.weight": ("P", None), "b.weight": (("Q", 1), ("Q", 3))}, "twice only in a square"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(changes: Spec, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_spec({**SPEC, **changes}, STATE)


def test_a_tensor_that_is_not_listed_is_refused() -> None:
    with pytest.raises(InputError, match=r"must be listed, got none for 'b\.weight'"):
        check_spec({"a.weight": ("P", None)}, STATE)


def test_a_square_tensor_may_name_a_permutation_twice() -> None:
    assert check_spec({"w": ("P", "P")}, {"w": torch.ones(4, 4)}) == {"P": 4}


@pytest.mark.parametrize(
    ("permutations", "message"),
    [
        ({}, r"must be one for each of \['P'\], got \[\]"),
        ({"P": torch.arange(3), "Q": torch.arange(3)}, r"got \['P', 'Q'\]"),
        ({"P": torch.arange(2)}, "'P' must hold each of 0 to 2 once"),
        ({"P": torch.tensor([0, 0, 1])}, "'P' must hold each of 0 to 2 once"),
    ],
)
def test_permutations_that_are_none_are_refused(
    permutations: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        permute(STATE, SPEC, permutations)


def test_the_identity_changes_nothing() -> None:
    permuted = permute(STATE, SPEC, identity_permutations({"P": 3}))

    assert all(torch.equal(permuted[name], STATE[name]) for name in STATE)
