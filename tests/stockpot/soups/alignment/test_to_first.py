from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from alignment_nets import mlp, outputs, random_inputs, random_state, seeded
from torch import Generator

from stockpot.errors import InputError
from stockpot.soups.alignment import (
    align_to_first,
    check_spec,
    permute,
    random_permutations,
    trace_spec,
)

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "alignment.md"
INPUTS = random_inputs(Generator().manual_seed(0), 40)


def test_permuted_copies_become_the_first_net_again() -> None:
    net = seeded(mlp())
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    spec = trace_spec(net, INPUTS)
    generator = Generator().manual_seed(1)
    sizes = check_spec(spec, state)
    copies = [permute(state, spec, random_permutations(sizes, generator)) for _ in range(2)]

    aligned = align_to_first(net, [state, *copies], INPUTS)

    assert len(aligned) == 3
    assert all(torch.equal(own[name], state[name]) for own in aligned for name in state)


def test_each_net_computes_what_it_did_and_the_first_is_unchanged() -> None:
    net = mlp()
    states = [random_state(net, Generator().manual_seed(seed)) for seed in range(3)]

    aligned = align_to_first(net, states, INPUTS)

    torch.testing.assert_close(aligned[0], states[0], atol=0, rtol=0)
    for own, state in zip(aligned[1:], states[1:], strict=True):
        assert not torch.equal(own["1.weight"], state["1.weight"])
        torch.testing.assert_close(outputs(net, own, INPUTS), outputs(net, state, INPUTS))


def test_one_net_is_refused() -> None:
    net = mlp()

    with pytest.raises(InputError, match="nets must be at least 2, got 1"):
        align_to_first(net, [net.state_dict()], INPUTS)


def test_the_example_of_the_documentation_runs_and_shows_what_it_says() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    names: dict[str, object] = {}

    exec(code, names)

    assert names["after"] <= 0.2 * names["before"]
