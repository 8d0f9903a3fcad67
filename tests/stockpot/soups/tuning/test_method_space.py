"""Search spaces of merge methods, and the positions of trials and known soups in them."""

from __future__ import annotations

import pytest
from optuna.trial import FixedTrial

from stockpot.errors import InputError
from stockpot.merging.registry import METHODS
from stockpot.soups.tuning.merge import Merge
from stockpot.soups.tuning.method_space import MethodSpace
from stockpot.soups.tuning.optuna_search import OptunaSearch
from stockpot.soups.tuning.proposals import Proposals
from stockpot.soups.tuning.tensor_groups import LayerGroups, groups_of

_LAYERS = ["embed.weight", *(f"blocks.{n}.w" for n in range(12)), "head.weight"]


_FIXED = ("arcee_fusion", "model_stock", "ram")  # no coefficients, and no ranges
_ALONG_RUN = [name for name in METHODS if METHODS[name].run_coefficients is not None]
_SEARCHED = sorted({*METHODS} - {*_FIXED, *_ALONG_RUN, "weight_signatures"})


@pytest.mark.parametrize("name", _SEARCHED)
def test_the_ranges_that_signatures_name_are_accepted(name: str) -> None:
    space = MethodSpace.of(name, None)  # checks all corners

    assert (space.weight == "simplex") == METHODS[name].takes_coefficients
    assert space.weight or space.searched


@pytest.mark.parametrize("name", _FIXED)
def test_a_method_without_ranges_needs_a_space(name: str) -> None:
    with pytest.raises(ValueError, match="names nothing to search"):
        OptunaSearch(method=name)


def test_the_start_of_a_method_is_the_soup_with_its_defaults() -> None:
    space = MethodSpace.of("ties", None)

    start = space.start("", [0, 2], 3)
    coefficients, options = space.ask(FixedTrial(start), "", 3)

    assert coefficients == (0.5, 0.0, 0.5)
    assert options == {"density": 0.2, "scale": 1.0}


def test_values_are_proposed_in_the_space_alone() -> None:
    from stockpot.distributions.fields import UniformField

    space = MethodSpace.of("ties", {"density": UniformField(uniform=(0.5, 0.6)), "scale": 2.0})

    start = space.start("", [0], 2)

    assert start == {"density": 0.5}  # the default of 0.2 is outside
    assert space.ask(FixedTrial(start), "", 2) == ((0.5, 0.5), {"scale": 2.0, "density": 0.5})


def test_layers_are_grouped_by_depth_with_embeddings_first_and_heads_last() -> None:
    groups = groups_of(LayerGroups(layer_group=3), _LAYERS)

    assert groups == {
        "depth 1 of 3": [],
        "depth 2 of 3": [f"blocks.{n}.*" for n in range(4, 8)],
        "depth 3 of 3": [*(f"blocks.{n}.*" for n in range(8, 12)), "head.weight"],
    }


def test_more_groups_than_layers_are_refused() -> None:
    with pytest.raises(InputError, match=r"at most the number of numbered layers \(0\), got 2"):
        groups_of(LayerGroups(layer_group=2), ["weight", "bias"])


def test_a_pattern_without_a_tensor_is_refused() -> None:
    with pytest.raises(InputError, match="must be the pattern of a tensor's name, got 'x'"):
        groups_of(["x"], ["weight", "bias"])


def test_each_group_has_values_of_its_own_and_one_method_is_chosen() -> None:
    spaces = {"linear": MethodSpace.of("linear", None), "slerp": MethodSpace.of("slerp", None)}
    proposals = Proposals(spaces, {"others": [], "*.bias": ["*.bias"]}, 2)

    merge = proposals.propose(
        FixedTrial({"method": "slerp", "slerp others t": 0.25, "slerp *.bias t": 0.75})
    )

    assert (merge.method, merge.options) == ("slerp", {"t": 0.25})
    [rule] = merge.rules
    assert (rule.match, rule.method, rule.options) == ("*.bias", "slerp", {"t": 0.75})


def test_a_merge_survives_its_record() -> None:
    proposals = Proposals(
        {"ties": MethodSpace.of("ties", None)}, {"others": [], "*.bias": ["*.bias"]}, 2
    )
    starts = {
        f"{group} {name}": value
        for group, density in (("others", 0.3), ("*.bias", 0.7))
        for name, value in {"density": density, "scale": 1, "weight 0": 1, "weight 1": 0.5}.items()
    }

    merge = proposals.propose(FixedTrial(starts))

    assert Merge.from_json(merge.to_json(["a", "b"])) == merge
    assert merge.shares == pytest.approx([2 / 3, 1 / 3])
